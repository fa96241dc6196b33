"""Steps of looking at one model, in the child: parse, rules, checker, load, run, read, profile."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from registry.reading.contract import Contract
from registry.validation.arrays import check_dataset, check_processor_golden, read_npz
from registry.validation.contract.facts import gather_facts, words_of
from registry.validation.contract.inference import UnclearError, infer_contract
from registry.validation.contract.trial import TRIAL_ROWS, fit_batches, try_rows
from registry.validation.feeds import (
    InputSpec,
    Rows,
    are_loose,
    choose_specs,
    draw_rows,
    fit_dataset,
)
from registry.validation.golden import write_golden
from registry.validation.reference import make_reference
from registry.validation.rules import RuleError, check_model_rules, extract_signature
from registry.validation.running import Session, open_session
from registry.validation.wasm import MAX_MODULE_BYTES, check_processor

Arrays = dict[str, NDArray[Any]]
Keep = Callable[[dict[str, Any]], None]


def inspect_model(folder: Path, job: dict[str, Any], keep: Keep) -> dict[str, Any]:
    """Signature, contract, profile (or None), notes and whether golden.npz was written.

    Args:
        keep: called with the result less its profile before the data set is run: what holds if
            that takes too long.

    Raises:
        RuleError: the model is not accepted; the message says why.
    """
    path = folder / "files" / job["model_path"]
    model = parse_model(path, job["max_model_bytes"])
    sizes = {name: (folder / "files" / name).stat().st_size for name in job["external_paths"]}
    check_model_rules(model, sizes)
    signature = extract_signature(model)
    _check_processors(folder, job, signature)
    _check_structure(path)
    session = open_session(path)
    dataset = _read_dataset(folder, job)
    given = dict(job["contract_given"])
    specs = [
        spec.with_words(words_of(model.graph, spec.name))
        for spec in choose_specs(signature["inputs"], given.get("input_batch_axes") or {})
    ]
    rows = None
    if dataset is not None:
        names = [item["name"] for item in signature["outputs"]]
        rows = fit_batches(session, names, fit_dataset(specs, dataset))
    result: dict[str, Any] = {
        "signature": signature, "contract": None, "question": "", "profile": None, "notes": [],
        "has_golden": False,
    }  # fmt: skip
    try:
        contract = _infer(model, session, signature, specs, rows, dataset, given, job)
    except UnclearError as error:
        return {**result, "question": str(error)}
    result["contract"] = contract.to_document()
    result["has_golden"] = write_golden(
        folder, session, specs, rows, None if dataset is None else dataset.get("y")
    )
    if rows is not None and dataset is not None:
        keep(result)
        labels = job["labels"] or [str(name) for name in contract.classes]
        truth = dataset.get("y")
        made = make_reference(session, contract, rows, truth, labels, job["limits"])
        result["profile"], result["notes"] = made.profile, made.notes
        result["contract"] = made.contract.to_document()
    return result


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


def _infer(
    model: onnx.ModelProto,
    session: Session,
    signature: dict[str, Any],
    specs: list[InputSpec],
    rows: Rows | None,
    dataset: Arrays | None,
    given: Mapping[str, Any],
    job: dict[str, Any],
) -> Contract:
    """The contract that what is seen of the model leaves no doubt about."""
    facts = gather_facts(model, signature)
    names = [item["name"] for item in signature["outputs"]]
    tried = draw_rows(specs, max(TRIAL_ROWS)) if rows is None else rows
    batch_rows: list[int] = []
    try:
        answers = try_rows(session, names, tried)
    except RuleError:
        if rows is not None or not are_loose(specs):
            raise
        # Drawn inputs need not be what a graph with free dimensions takes.
    else:
        facts = facts.with_answers([answer.outputs for answer in answers])
        batch_rows = [answer.rows for answer in answers]
    truth = None if dataset is None else dataset.get("y")
    axes: dict[str, int | None] = {
        spec.name: spec.batch_axis for spec in specs if spec.batch_axis != 0
    }
    contract = infer_contract(
        facts,
        task=job["model_task"],
        is_task_open=job["is_task_open"],
        labels=job["labels"],
        given=given,
        batch_rows=batch_rows,
        has_true_classes=truth is not None and truth.dtype.kind in "iu",
    )
    return replace(contract, input_batch_axes=axes)


def _read_dataset(folder: Path, job: dict[str, Any]) -> Arrays | None:
    path = folder / "dataset.npz"
    if not path.exists():
        return None
    dataset = read_npz(path, job["max_array_bytes"])
    check_dataset(dataset)
    return dataset


def _check_processors(folder: Path, job: dict[str, Any], signature: dict[str, Any]) -> None:
    for name in job["processor_paths"]:
        with (folder / "files" / name).open("rb") as stream:
            check_processor(stream.read(MAX_MODULE_BYTES + 1))
        _check_takes_images(signature)
    for name in job["processor_golden_paths"]:
        golden = read_npz(folder / "files" / name, job["max_array_bytes"])
        check_processor_golden(golden, channels=signature["inputs"][0]["shape"][1])


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
