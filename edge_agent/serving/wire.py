"""Tensors and answers as bytes of the local endpoint: npy and JSON in, npy and JSON out.

Every size is checked against the bytes that came before an array is made.
"""

import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.exceptions import InputError

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession
    from edge_agent.serving.serving import Answer

Array = np.ndarray[Any, Any]
JSON, NPY = "application/json", "application/x-npy"
MAX_DIMENSIONS = 8
OUTPUTS_MAX_VALUES = 4096
"""An output with more values is left out of a JSON answer; ask for npy."""


def parse_npy(data: bytes) -> Array:
    """The array in the bytes of an npy file.

    Raises:
        InputError: no npy, holds objects, or its header promises another length than came.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise InputError(f"npy: expected version 1.0 or 2.0, got {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(stream)
    except ValueError as error:
        raise InputError(f"not an npy file: {str(error)[:120]}") from error
    if dtype.hasobject:
        raise InputError("npy: arrays of objects are refused")
    if len(shape) > MAX_DIMENSIONS:
        raise InputError(f"npy: expected at most {MAX_DIMENSIONS} dimensions, got {len(shape)}")
    expected, got = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if expected != got:
        raise InputError(f"npy: header promises {expected} bytes, {got} came")
    flat = np.frombuffer(data, dtype=dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C")


def format_npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def parse_json_inputs(data: bytes, session: "ModelSession") -> dict[str, Array]:
    """The tensors in `{"inputs": [...]}` or `{"inputs": {"name": [...]}}`, as the model's dtypes.

    Raises:
        InputError: no such document, or numbers that make no array of the model's dtype.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"body is not JSON: {str(error)[:120]}") from error
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if isinstance(inputs, list):
        inputs = {session.input_names[0]: inputs}
    fitting = isinstance(inputs, dict) and (
        set(session.inputs) - set(session.resting) <= set(inputs) <= set(session.inputs)
    )
    if not fitting or not isinstance(inputs, dict):
        got = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
        raise InputError(f"inputs: expected {session.input_names}, got {got}")
    feed = {}
    for name, values in inputs.items():
        dtype, _ = session.inputs[name]
        try:
            if dtype == "str":
                feed[name] = read_texts(name, values)
                continue
            loose = np.asarray(values)
            if loose.dtype.kind not in "biuf":
                raise InputError(f"input {name}: expected numbers in a regular array")
            with np.errstate(over="raise"):
                array = loose.astype(dtype)
        except (ValueError, TypeError, OverflowError, FloatingPointError) as error:
            raise InputError(f"input {name}: no array of {dtype}: {str(error)[:120]}") from error
        if array.dtype.kind in "iub" and not np.array_equal(array, loose):
            raise InputError(f"input {name}: a value does not fit {dtype}")
        feed[name] = array
    return feed


def read_texts(name: str, values: Any) -> Array:
    """Texts in a regular array. Raises InputError."""
    array: Array = np.asarray(values, dtype=object)
    if not all(isinstance(text, str) for text in array.reshape(-1).tolist()):
        raise InputError(f"input {name}: expected texts in a regular array")
    return array


def describe_answer(answer: "Answer", session_outputs: list[str] | None) -> dict[str, Any]:
    """An answer as a JSON document; `session_outputs` names the outputs to include, None none."""
    manifest, result = answer.manifest, answer.result
    row: dict[str, Any] = {
        "model": manifest.model,
        "version": manifest.version,
        "variant": manifest.variant,
        "manifest_sha256": manifest.digest,
        "class_id": result.class_id,
        "label": answer.label,
        "confidence": result.confidence,
        "top_k": [
            {"class_id": i, "label": label, "confidence": confidence}
            for i, label, confidence in result.top_k
        ],
        "latency_ms": round(result.latency_ms, 4),
        "is_cached": result.is_cached,
    }
    if result.measures:
        row["measures"] = result.measures
    if result.boxes:
        row["boxes"] = [
            {
                "class_id": box.class_id,
                "label": box.label,
                "score": round(box.score, 6),
                "corners": list(box.corners),
            }
            for box in result.boxes
        ]
    if result.error:
        row["error"] = result.error
    if session_outputs is not None:
        row["outputs"] = {
            name: make_plain(output)
            for name, output in zip(session_outputs, result.outputs, strict=True)
            if is_small(output)
        }
    return row


def is_small(output: Any) -> bool:
    """True for what a JSON answer may hold."""
    if isinstance(output, list):
        return sum(map(len, output)) <= OUTPUTS_MAX_VALUES
    return isinstance(output, np.ndarray) and output.size <= OUTPUTS_MAX_VALUES


def make_plain(array: Any) -> Any:
    """Nested lists of `array`, with null where JSON has no number for it; maps as objects."""
    if isinstance(array, list):
        return [{str(key): value for key, value in row.items()} for row in array]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        loose = array.astype(object)
        loose[~np.isfinite(array)] = None
        return loose.tolist()
    return array.tolist()


def describe_session(session: "ModelSession") -> dict[str, Any]:
    """What a model takes and gives, and what runs it."""
    manifest, report = session.manifest, session.providers

    def sizes(shape: tuple[Any, ...]) -> list[Any]:
        return [size if isinstance(size, int) else None for size in shape]

    row: dict[str, Any] = {
        "model": manifest.model,
        "version": manifest.version,
        "variant": manifest.variant,
        "manifest_sha256": manifest.digest,
        "inputs": [
            {"name": name, "dtype": dtype, "shape": sizes(shape)}
            for name, (dtype, shape) in session.inputs.items()
        ],
        "outputs": session.output_names,
        "labels": list(session.reader.labels),
        "providers": {"active": list(report.active), "nodes": report.nodes},
        "latency": session.latency.stats(),
    }
    if session.cache is not None:
        row["cache"] = {"hits": session.cache.hits, "misses": session.cache.misses}
    return row
