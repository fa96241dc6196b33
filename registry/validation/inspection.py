"""Steps of looking at one model, in the child: parse, rules, checker, load, run, profile."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from registry.validation.arrays import check_dataset, check_processor_golden, read_npz
from registry.validation.profile import apply_activation, build_profile
from registry.validation.rules import (
    RuleError,
    check_model_rules,
    extract_signature,
    producer_of,
)
from registry.validation.wasm import MAX_MODULE_BYTES, check_processor

BATCH_ROWS = 256
GOLDEN_ROWS = 64
MIN_GOLDEN_ROWS = 8
GOLDEN_BYTES = 1024**2
"""Of inputs, where that many rows have more: every device fetches them."""
MAX_PROFILE_ROWS = 20_000
GOLDEN_SEED = 20_240_101

Arrays = dict[str, NDArray[Any]]


def inspect_model(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Signature, postprocessing, profile (or None) and whether golden.npz was written.

    Raises:
        RuleError: the model is not accepted; the message says why.
    """
    path = folder / "files" / job["model_path"]
    model = parse_model(path, job["max_model_bytes"])
    sizes = {name: (folder / "files" / name).stat().st_size for name in job["external_paths"]}
    check_model_rules(model, sizes)
    signature = extract_signature(model)
    for name in job["processor_paths"]:
        with (folder / "files" / name).open("rb") as stream:
            check_processor(stream.read(MAX_MODULE_BYTES + 1))
        _check_takes_images(signature)
    for name in job["processor_golden_paths"]:
        golden = read_npz(folder / "files" / name, job["max_array_bytes"])
        check_processor_golden(golden, channels=signature["inputs"][0]["shape"][1])
    _check_structure(path)
    session = load_session(path)
    dataset = None
    if (folder / "dataset.npz").exists():
        dataset = read_npz(folder / "dataset.npz", job["max_array_bytes"])
        check_dataset(dataset)
        if "x" not in dataset:
            raise RuleError(f"A profile needs an array 'x'; the data set has {sorted(dataset)}")
    scores, activation = _choose_scores(model, signature, job["postprocessing"])
    postprocessing = {
        "scores_output": scores,
        "activation": activation,
        **job["postprocessing"],
    }
    is_classifier = job["model_task"] == "classification"
    if is_classifier:
        _check_labels(signature, scores, job["labels"])
    profile = None
    if dataset is not None:
        profile = _profile(session, signature, dataset, postprocessing, job)
    has_golden = _write_golden(folder, session, signature, dataset)
    return {
        "signature": signature,
        "postprocessing": postprocessing if is_classifier else job["postprocessing"],
        "profile": profile,
        "has_golden": has_golden,
    }


def parse_model(path: Path, max_bytes: int) -> onnx.ModelProto:
    """The parsed protobuf without its external data; the size is checked first."""
    size = path.stat().st_size
    if not 0 < size <= min(max_bytes, onnx.checker.MAXIMUM_PROTOBUF):
        raise RuleError(f"The model file has {size} bytes; accepted: 1 to {max_bytes}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's implementations raise classes of their own
        raise RuleError(f"The file is not an ONNX model: {error}") from error
    return model


def load_session(path: Path) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU with one thread and no custom operators."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # every class of its binding derives from Exception alone
        raise RuleError(f"ONNX Runtime does not load the model: {error}") from error


def run_rows(
    session: onnxruntime.InferenceSession, name: str, rows: NDArray[Any], output: str, batch: int
) -> NDArray[Any]:
    """One output for all rows, run `batch` rows at a time."""
    return np.concatenate(
        [
            _run(session, {name: rows[start : start + batch]}, [output])[0]
            for start in range(0, len(rows), batch)
        ]
    )


def _run(session: onnxruntime.InferenceSession, feed: Arrays, names: list[str]) -> list[Any]:
    try:
        return list(session.run(names, feed))
    except Exception as error:
        raise RuleError(f"The model does not run on these inputs: {error}") from error


def _check_takes_images(signature: dict[str, Any]) -> None:
    """A processor turns one image into one input, and needs to know its size."""
    shapes = [item["shape"] for item in signature["inputs"]]
    is_image = len(shapes) == 1 and len(shapes[0]) == 4
    if not is_image or not all(isinstance(size, int) for size in shapes[0][1:]):
        raise RuleError(
            "A processor needs a model with one input [batch, channels, height, width] of fixed "
            f"size; this one has {shapes}"
        )


def _check_structure(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError, OSError) as error:
        raise RuleError(f"The ONNX checker refuses the model: {error}") from error


def _choose_scores(
    model: onnx.ModelProto, signature: dict[str, Any], given: dict[str, Any]
) -> tuple[str, str]:
    names = [output["name"] for output in signature["outputs"]]
    scores = given.get("scores_output", names[0])
    if scores not in names:
        raise RuleError(f"scores_output is {scores!r}; the outputs are {names}")
    producer = producer_of(model, scores)
    activation = "none" if producer in ("Softmax", "Sigmoid") else "softmax"
    return scores, activation


def _check_labels(signature: dict[str, Any], scores: str, labels: list[str]) -> None:
    shape = next(item["shape"] for item in signature["outputs"] if item["name"] == scores)
    classes = shape[-1] if len(shape) == 2 else None
    if (
        isinstance(classes, int)
        and labels
        and len(labels) != max(classes, 2 if classes == 1 else 1)
    ):
        raise RuleError(f"The model has {classes} classes; its label map has {len(labels)}")


def _fit_rows(signature: dict[str, Any], x: NDArray[Any]) -> tuple[str, NDArray[Any], int]:
    """Input name, rows in its data type, and rows per call; checks the shape."""
    inputs = signature["inputs"]
    if len(inputs) != 1:
        raise RuleError(f"A data set needs a model with one input; this one has {len(inputs)}")
    shape = inputs[0]["shape"]
    fits = len(shape) == x.ndim and all(
        isinstance(want, str) or want == got
        for want, got in zip(shape[1:], x.shape[1:], strict=True)
    )
    if not fits:
        raise RuleError(f"The data set's x has shape {list(x.shape)}; the input wants {shape}")
    try:
        dtype = np.dtype(inputs[0]["dtype"])
    except TypeError as error:
        raise RuleError(
            f"A data set holds numbers; the input wants {inputs[0]['dtype']}"
        ) from error
    if not np.can_cast(x.dtype, dtype, casting="same_kind"):
        raise RuleError(f"The data set's x is {x.dtype}; the input wants {dtype}")
    batch = shape[0] if isinstance(shape[0], int) else BATCH_ROWS
    if isinstance(shape[0], int) and len(x) < batch:
        raise RuleError(f"The model takes {batch} rows at a time; the data set has {len(x)}")
    return inputs[0]["name"], x.astype(dtype, copy=False), batch


def _profile(
    session: onnxruntime.InferenceSession,
    signature: dict[str, Any],
    dataset: Arrays,
    postprocessing: dict[str, Any],
    job: dict[str, Any],
) -> dict[str, Any]:
    name, rows, batch = _fit_rows(signature, dataset["x"][:MAX_PROFILE_ROWS])
    if isinstance(signature["inputs"][0]["shape"][0], int):
        rows = rows[: len(rows) - len(rows) % batch]
    output = run_rows(session, name, rows, postprocessing["scores_output"], batch)
    probabilities = None
    if job["model_task"] == "classification":
        if output.dtype.kind != "f" or len(output) != len(rows):
            raise RuleError(f"The scores have type {output.dtype} and shape {output.shape}")
        if not np.isfinite(output).all():
            raise RuleError("The model gives NaN or infinite scores on the data set")
        probabilities = apply_activation(output, postprocessing["activation"])
    truth = dataset.get("y")
    return build_profile(
        labels=job["labels"],
        inputs=rows,
        probabilities=probabilities,
        truth=None if truth is None else truth[: len(rows)],
    )


def _write_golden(
    folder: Path,
    session: onnxruntime.InferenceSession,
    signature: dict[str, Any],
    dataset: Arrays | None,
) -> bool:
    """Writes golden.npz: a few inputs and what the model makes of them.

    Inputs come from the parent variant's golden file, else from the data set, else they are
    drawn; False when free dimensions make drawn inputs fail. The data set's labels of those rows
    come along as `truth`.
    """
    names = [item["name"] for item in signature["inputs"]]
    outputs = [item["name"] for item in signature["outputs"]]
    given = folder / "golden_inputs.npz"
    is_drawn = False
    truth = None
    if given.exists():
        arrays = read_npz(given, 512 * 1024 * 1024)
        truth = arrays.get("truth")
        feed = {name: arrays[f"input_{name}"] for name in names if f"input_{name}" in arrays}
        if set(feed) != set(names):
            raise RuleError(f"The golden inputs do not fit: expected {names}, got {sorted(feed)}")
    elif dataset is not None:
        name, rows, batch = _fit_rows(signature, dataset["x"])
        is_fixed = isinstance(signature["inputs"][0]["shape"][0], int)
        chosen = choose_golden_rows(len(rows), rows[:1].nbytes, batch if is_fixed else None)
        feed = {name: rows[chosen]}
        truth = dataset["y"][chosen] if "y" in dataset else None
    else:
        is_drawn = True
        feed = _draw_inputs(signature)
    has_free_inner = any(
        isinstance(d, str) for item in signature["inputs"] for d in item["shape"][1:]
    )
    try:
        results = _run(session, feed, outputs)
    except RuleError:
        if is_drawn and has_free_inner:
            return False
        raise
    arrays = {f"input_{name}": value for name, value in feed.items()}
    for name, value in zip(outputs, results, strict=True):
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            return False
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            if is_drawn:
                return False
            raise RuleError(f"The output {name!r} is not finite on the golden inputs")
        arrays[f"output_{name}"] = value
    if truth is not None:
        arrays["truth"] = truth
    np.savez(folder / "golden.npz", **arrays)  # type: ignore[arg-type]
    return True


def choose_golden_rows(rows: int, row_bytes: int, batch: int | None) -> NDArray[np.int64]:
    """Which rows of a data set become golden vectors: spread over it, as sets lie sorted by class.

    Args:
        row_bytes: of the inputs of one row.
        batch: how many the model takes at once; None where it takes any number.
    """
    fitting = min(GOLDEN_ROWS, max(MIN_GOLDEN_ROWS, GOLDEN_BYTES // max(row_bytes, 1)))
    count = min(rows, batch or fitting)
    return np.linspace(0, rows - 1, count).round().astype(np.int64)


def _draw_inputs(signature: dict[str, Any]) -> Arrays:
    generator = np.random.default_rng(GOLDEN_SEED)
    feed: Arrays = {}
    for item in signature["inputs"]:
        shape = [dim if isinstance(dim, int) else 1 for dim in item["shape"]]
        if item["dtype"] == "string":
            feed[item["name"]] = np.full(shape, "", dtype=object)
        elif item["dtype"].startswith("float"):
            feed[item["name"]] = generator.standard_normal(shape).astype(item["dtype"])
        else:
            feed[item["name"]] = np.zeros(shape, dtype=item["dtype"])
    return feed
