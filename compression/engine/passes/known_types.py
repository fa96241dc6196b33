"""Types of tensors behind operators that ONNX itself does not know.

The quantizer leaves alone, or stumbles over, what reads a tensor of unknown type. ONNX's inference
stops at operators of other domains; ONNX Runtime knows its own.
"""

from pathlib import Path

import onnx
from onnx import helper

from compression.measure.sessions import open_session

_TENSOR_TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(bool)": onnx.TensorProto.BOOL,
}


def state_types(source: Path, destination: Path) -> Path:
    """The model with the types behind contributed operators stated, at `destination`.

    Where there is no such operator nothing is written, and `source` itself is the answer.
    """
    model = onnx.load(str(source))
    names = [
        name
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx")
        for name in node.output
        if name
    ]
    stated = {item.name for item in [*model.graph.value_info, *model.graph.output]}
    missing = [name for name in names if name not in stated]
    if not missing:
        return source
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in missing)
    session = open_session(probe.SerializeToString(), is_optimized=False)
    for item in session.get_outputs():
        if item.name in missing and item.type in _TENSOR_TYPES:
            kind = _TENSOR_TYPES[item.type]
            model.graph.value_info.append(
                # An unknown shape comes as an empty one, and stated would be that of a scalar.
                helper.make_tensor_value_info(item.name, kind, list(item.shape) or None)
            )
    onnx.save(model, str(destination))
    return destination
