"""Types of tensors that ONNX itself does not know.

The quantizer leaves alone, or stumbles over, what reads a tensor of unknown type. ONNX's inference
stops at operators of other domains and wherever it gives a graph up; ONNX Runtime knows its own.
"""

from pathlib import Path

import onnx
from onnx import helper

from compression.measure.sessions import open_session

_TENSOR_TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(double)": onnx.TensorProto.DOUBLE,
    "tensor(int8)": onnx.TensorProto.INT8,
    "tensor(uint8)": onnx.TensorProto.UINT8,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(bool)": onnx.TensorProto.BOOL,
}


def state_types(source: Path, destination: Path) -> Path:
    """The model with the types stated that ONNX does not infer, at `destination`.

    Where it infers all of them nothing is written, and `source` itself is the answer.
    """
    model = onnx.load(str(source))
    if not add_types(model):
        return source
    onnx.save(model, str(destination))
    return destination


def add_types(model: onnx.ModelProto) -> bool:
    """States types that ONNX does not infer, in place; whether there were any."""
    missing = _list_unknown(model)
    if not missing:
        return False
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in missing)
    session = open_session(probe.SerializeToString(), is_optimized=False)
    # An entry without a type is in the way of one with it.
    vague = [item for item in model.graph.value_info if item.name in missing]
    for item in vague:
        model.graph.value_info.remove(item)
    for item in session.get_outputs():
        if item.name in missing and item.type in _TENSOR_TYPES:
            kind = _TENSOR_TYPES[item.type]
            model.graph.value_info.append(
                # An unknown shape comes as an empty one, and stated would be that of a scalar.
                helper.make_tensor_value_info(item.name, kind, list(item.shape) or None)
            )
    return True


def _list_unknown(model: onnx.ModelProto) -> set[str]:
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        graph = model.graph
    items = [*graph.input, *graph.value_info, *graph.output]
    known = {item.name for item in items if item.type.WhichOneof("value")}
    known -= {
        item.name
        for item in items
        if item.type.WhichOneof("value") == "tensor_type" and not item.type.tensor_type.elem_type
    }
    known |= {item.name for item in graph.initializer}
    return {name for node in graph.node for name in node.output if name and name not in known}
