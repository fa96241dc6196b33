"""What of a graph can be FP16: by the operators' schemas, and by what constants are worth. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.defs
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from compression.engine.graph.order import inner_graphs

FP16_MAX = 65504.0
_FLOAT, _HALF = "tensor(float)", "tensor(float16)"
_FP32_OPERATORS = {"QuantizeLinear", "DequantizeLinear"}
# The region of interest may be FP16, but few kernels take it.
_FP32_INPUTS = {"Resize": {1}}
# One small weight among many adds nothing to a sum; only tensors that are small as a whole matter.
_SUMS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN", "Einsum"}
_MAX_ROUNDING = 0.1
_CONSTANTS = {"Constant", "ConstantOfShape"}
# A bound beyond what FP16 holds bounds nothing there: the largest number serves as well.
_BOUNDS = {"Clip", "Max", "Min"}
# A value that FP16 cannot hold comes out of these as it is, or not much nearer to 1.
_CARRIERS = {
    *("Add", "Sub", "Neg", "Abs", "Max", "Min", "Clip", "Where", "Sqrt", "Pow", "Reciprocal"),
    *("Identity", "Cast", "Expand", "Tile", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("Transpose", "Concat", "Slice", "Split", "Gather", "Pad"),
}


@dataclass(frozen=True)
class NodeTypes:
    """Which inputs and outputs of a node are FP16 where FP32 was, by position."""

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]


def node_types(node: onnx.NodeProto, opset: int, *, is_kept: bool) -> NodeTypes:
    """What the operator's schema lets be FP16; nothing where the node is to stay as it is.

    An output is FP16 only if an input of the same type variable is. Any other one has the type
    that an attribute or the operator itself gives it, which stays (ConstantOfShape, Cast, Range).

    Args:
        opset: of ONNX's own domain, since operators learn types from version to version.
        is_kept: nothing of this node may change.
    """
    whole = NodeTypes((False,) * len(node.input), (False,) * len(node.output))
    schema = _schema_of(node, opset)
    if is_kept or schema is None:
        return whole
    allowed = {item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints}
    kinds = [allowed.get(item.type_str, {item.type_str}) for item in _parameters(schema)]
    if not all(any(name.startswith("tensor(") for name in kind) for kind in kinds):
        # What goes into a sequence, or comes out of one, has the type of all its members.
        return whole
    read = [_formal(schema.inputs, index) for index in range(len(node.input))]
    written = [_formal(schema.outputs, index) for index in range(len(node.output))]
    fixed = _FP32_INPUTS.get(node.op_type, set())
    variables = {
        item.type_str
        for index, (item, name) in enumerate(zip(read, node.input, strict=True))
        if name and index not in fixed and {_FLOAT, _HALF} <= allowed.get(item.type_str, set())
    }
    return NodeTypes(
        tuple(item.type_str in variables and index not in fixed for index, item in enumerate(read)),
        tuple(item.type_str in variables for item in written),
    )


def _schema_of(node: onnx.NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain not in ("", "ai.onnx") or node.op_type in _FP32_OPERATORS:
        return None
    if any(True for _ in inner_graphs(node)):
        return None
    if not onnx.defs.has(node.op_type, opset, ""):
        return None
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    # Without it the output has the type of the first input (RandomNormalLike, EyeLike, Bernoulli).
    is_like = "dtype" in schema.attributes and bool(node.input)
    return None if is_like else schema


def _parameters(schema: onnx.defs.OpSchema) -> list[onnx.defs.OpSchema.FormalParameter]:
    return [*schema.inputs, *schema.outputs]


def _formal(
    parameters: Sequence[onnx.defs.OpSchema.FormalParameter], index: int
) -> onnx.defs.OpSchema.FormalParameter:
    # Only the last one may stand for several.
    return parameters[min(index, len(parameters) - 1)]


def find_extreme_constants(graph: onnx.GraphProto) -> dict[str, str]:
    """Nodes that a constant keeps in FP32, by name with the reason.

    A divisor of at least 1e-12 becomes 0 in FP16, and a mask of -1e9 infinite. Their readers stay
    FP32, and so do the readers of what those hand on.
    """
    constants = dict(_constants_of(graph))
    reasons: dict[str, str] = {}
    carried: dict[str, str] = {}
    for node in graph.node:
        found = next((carried[name] for name in node.input if name in carried), None)
        starts = next(
            (
                reason
                for name in node.input
                if name in constants and (reason := _reason(constants[name], node.op_type))
            ),
            None,
        )
        if starts is None and found is None:
            continue
        reasons[node.name] = starts or found or ""
        if starts or node.op_type in _CARRIERS:
            carried |= {name: reasons[node.name] for name in node.output if name}
    return reasons


def fits_half(values: NDArray) -> bool:
    """Whether FP16 keeps what weights of sums are worth."""
    return _reason(values, "MatMul") is None


def _constants_of(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray]]:
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        for item in node.attribute if node.op_type in _CONSTANTS else ():
            if item.name == "value" and item.t.data_type == TensorProto.FLOAT:
                yield node.output[0], numpy_helper.to_array(item.t)
            elif item.name == "value_float":
                yield node.output[0], np.array([item.f], np.float32)
            elif item.name == "value_floats":
                yield node.output[0], np.array(item.floats, np.float32)


def _reason(values: NDArray, operator: str) -> str | None:
    """Why a constant does not fit FP16; None where it does."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)]).astype(np.float64)
    if not sizes.size:
        return None
    if sizes.max() > FP16_MAX and operator not in _BOUNDS:
        return f"a constant of {sizes.max():.3g} does not fit FP16"
    sizes = np.minimum(sizes, FP16_MAX)
    judged = sizes.max(keepdims=True) if operator in _SUMS else sizes
    lost = judged[np.abs(judged.astype(np.float16) - judged) > _MAX_ROUNDING * judged]
    return f"a constant of {lost.min():.3g} is lost in FP16" if lost.size else None
