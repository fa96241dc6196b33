"""The Open Inference Protocol, version 2: the requests that existing clients send.

    GET  /v2                              this server
    GET  /v2/health/live, …/ready         200 while it answers; while a release runs
    GET  /v2/models/<slug>[/ready]        what a model takes and gives; 200 while it runs
    POST /v2/models/<slug>/infer          tensors in, tensors out

`/versions/<version>` may follow the slug and must then be the running one's. Tensors are lists in
the JSON, or bytes behind it (the extension `binary_tensor_data`, the default of Triton's client).
The specification: github.com/kserve/open-inference-protocol, `inference_rest.md`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.exceptions import InputError
from edge_agent.reading.golden import to_array
from edge_agent.version import __version__

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession
    from edge_agent.serving.serving import Answer

Array = np.ndarray[Any, Any]
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
MAX_DIMENSIONS = 8
_NAMES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "str": "BYTES",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class Asked:
    """A request to infer."""

    inputs: dict[str, Array]
    request_id: str = ""
    outputs: dict[str, bool] | None = None
    """Names of outputs, each with whether it comes as bytes; None for all outputs."""
    is_binary: bool = False
    """Outputs that are not named come as bytes."""


@dataclass
class _Bytes:
    """What follows the JSON; tensors take theirs in order."""

    data: bytes
    at: int = 0

    def take(self, name: str, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            left = len(self.data) - self.at
            raise InputError(f"input {name}: binary_data_size is {size}, and {left} bytes are left")
        self.at += size
        return self.data[self.at - size : self.at]


def describe_server() -> dict[str, Any]:
    return {
        "name": "aviary-agent",
        "version": __version__,
        "extensions": ["binary_tensor_data"],
    }


def describe_model(session: "ModelSession") -> dict[str, Any]:
    """The model's metadata; a free dimension is -1."""
    manifest = session.manifest
    declared = {item["name"]: item for item in manifest.document.get("outputs") or ()}

    def sizes(shape: Any) -> list[int]:
        return [size if isinstance(size, int) and size > 0 else -1 for size in shape]

    return {
        "name": manifest.model,
        "versions": [manifest.version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": name, "datatype": _NAMES.get(dtype, dtype), "shape": sizes(shape)}
            for name, (dtype, shape) in session.inputs.items()
        ],
        "outputs": [
            {
                "name": name,
                "datatype": _datatype(str(declared.get(name, {}).get("dtype", "float32"))),
                "shape": sizes(declared.get(name, {}).get("shape", ())),
            }
            for name in session.output_names
        ],
    }


def _datatype(dtype: str) -> str:
    if dtype == "map":
        return "FP32"  # its values, in the order of the sorted classes
    return _NAMES.get("str" if dtype == "string" else dtype, dtype)


def parse_request(body: bytes, header_length: str | None) -> Asked:
    """The tensors of a request to infer.

    Args:
        header_length: the value of `HEADER_LENGTH`; None where the body is JSON alone.

    Raises:
        InputError: no such document, or data that makes no tensor of its shape and datatype.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise InputError(f"{HEADER_LENGTH}: expected 0 to {len(body)}, got {header_length!r}")
        length = int(header_length)
    try:
        document = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise InputError(f"body is not JSON: {str(error)[:120]}") from error
    rows = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise InputError("expected an object with a list `inputs` of tensors")
    rest = _Bytes(body[length:])
    inputs = {}
    for row in rows:
        name = row.get("name")
        if not isinstance(name, str) or name in inputs:
            raise InputError(f"inputs: expected each name once, got {name!r}")
        inputs[name] = _read_tensor(name, row, rest)
    if rest.at != len(rest.data):
        raise InputError(f"{len(rest.data) - rest.at} bytes follow the last tensor")
    return Asked(
        inputs=inputs,
        request_id=str(document.get("id") or ""),
        outputs=_read_outputs(document),
        is_binary=_parameter(document, "binary_data_output") is True,
    )


def _parameter(row: Mapping[str, Any], name: str) -> Any:
    parameters = row.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _read_outputs(document: Mapping[str, Any]) -> dict[str, bool] | None:
    rows = document.get("outputs")
    if not rows:
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows
    ):
        raise InputError("outputs: expected a list of objects with a name")
    by_default = _parameter(document, "binary_data_output") is True
    found = {}
    for row in rows:
        wanted = _parameter(row, "binary_data")
        found[row["name"]] = by_default if wanted is None else wanted is True
    return found


def _read_tensor(name: str, row: Mapping[str, Any], rest: _Bytes) -> Array:
    shape, datatype = row.get("shape"), row.get("datatype")
    is_shape = isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS
    if not is_shape or not all(type(size) is int and 0 <= size < 2**31 for size in shape or ()):
        raise InputError(f"input {name}: shape is a list of sizes, got {shape!r:.100}")
    assert isinstance(shape, list)
    if not isinstance(datatype, str) or datatype not in _DTYPES:
        raise InputError(f"input {name}: datatype is one of {sorted(_DTYPES)}, got {datatype!r}")
    count, dtype = math.prod(shape), _DTYPES[datatype]
    size = _parameter(row, "binary_data_size")
    if size is not None:
        if type(size) is not int:
            raise InputError(f"input {name}: binary_data_size is a number, got {size!r}")
        return _from_bytes(name, rest.take(name, size), dtype, count).reshape(shape)
    return _from_list(name, row.get("data"), dtype, count).reshape(shape)


def _from_bytes(name: str, data: bytes, dtype: str, count: int) -> Array:
    if dtype == "str":
        return _texts_of(name, data, count)
    expected = count * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise InputError(f"input {name}: expected {expected} bytes, got {len(data)}")
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)


def _texts_of(name: str, data: bytes, count: int) -> Array:
    """Each text behind its length in four bytes, the least first."""
    texts: list[bytes] = []
    at = 0
    while at + 4 <= len(data) and len(texts) <= count:
        length = int.from_bytes(data[at : at + 4], "little")
        texts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(data) or len(texts) != count:
        raise InputError(f"input {name}: expected {count} texts, each behind its length")
    try:
        return np.array([text.decode() for text in texts], dtype=object)
    except UnicodeDecodeError as error:
        raise InputError(f"input {name}: texts are UTF-8: {error}") from error


def _from_list(name: str, values: Any, dtype: str, count: int) -> Array:
    try:
        if dtype == "str":
            array: Array = np.asarray(values, dtype=object).reshape(-1)
            if not all(isinstance(text, str) for text in array.tolist()):
                raise InputError(f"input {name}: BYTES in JSON are texts")
        else:
            loose = np.asarray(values).reshape(-1)
            if loose.dtype.kind not in "biuf":
                raise InputError(f"input {name}: expected numbers in a regular array")
            with np.errstate(over="raise"):
                array = loose.astype(dtype)
            if array.dtype.kind in "iub" and not np.array_equal(array, loose):
                raise InputError(f"input {name}: a value does not fit {dtype}")
    except (ValueError, TypeError, OverflowError, FloatingPointError) as error:
        raise InputError(f"input {name}: no array of {dtype}: {str(error)[:120]}") from error
    if array.size != count:
        raise InputError(f"input {name}: expected {count} values, got {array.size}")
    return array


def format_answer(answer: "Answer", names: list[str], asked: Asked) -> tuple[bytes, dict[str, str]]:
    """The body of the answer, and its headers.

    Raises:
        InputError: an output was asked for that the model does not have.
    """
    wanted = asked.outputs or dict.fromkeys(names, asked.is_binary)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise InputError(f"outputs: expected some of {names}, got {unknown}")
    rows, parts = [], []
    for name, is_binary in wanted.items():
        array = to_array(answer.result.outputs[names.index(name)])
        if array is None:
            raise InputError(f"outputs: {name} is of a kind that this protocol has no word for")
        row: dict[str, Any] = {
            "name": name,
            "datatype": _NAMES["str" if array.dtype.kind == "U" else array.dtype.name],
            "shape": list(array.shape),
        }
        if is_binary:
            data = _to_bytes(array)
            row["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        else:
            row["data"] = _to_list(array)
        rows.append(row)
    document: dict[str, Any] = {
        "model_name": answer.manifest.model,
        "model_version": answer.manifest.version,
        "outputs": rows,
        "parameters": _read_words(answer),
    }
    if asked.request_id:
        document["id"] = asked.request_id
    head = json.dumps(document, allow_nan=False).encode()
    headers = {"X-Manifest-Digest": answer.manifest.digest}
    if parts:
        headers[HEADER_LENGTH] = str(len(head))
    return b"".join([head, *parts]), headers


def _read_words(answer: "Answer") -> dict[str, Any]:
    """What the contract makes of the outputs: parameters are plain values."""
    result = answer.result
    words: dict[str, Any] = {
        "class_id": result.class_id,
        "label": answer.label,
        "confidence": result.confidence,
        "error": result.error or None,
        **result.measures,
    }
    return {name: value for name, value in words.items() if value is not None}


def _to_bytes(array: Array) -> bytes:
    if array.dtype.kind == "U":
        texts = [text.encode() for text in array.reshape(-1).tolist()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=little).tobytes()


def _to_list(array: Array) -> list[Any]:
    """Flat; null where JSON has no number for it."""
    flat = array.reshape(-1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return [value if math.isfinite(value) else None for value in flat.tolist()]
    return flat.tolist()
