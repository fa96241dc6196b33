"""The INT8 products of a graph as ONNX Runtime runs it, and which of them can saturate. Pure."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compression.engine.graph.structure import attributes_of

# A pair of weights of one sign may sum up to this: 255 * 128 = 32640 is below 2 ** 15.
MAX_PAIR = 128


@dataclass(frozen=True)
class Operator:
    """Where an operator has its operands; None where it has none.

    Attributes:
        activation, weight: their places among the inputs.
        activation_zero, weight_zero: of their zero points.
        scales: of the activation's and the weight's scale.
        bias: of the bias.
        result: of the result's scale; its zero point follows.
    """

    activation: int
    weight: int
    activation_zero: int | None = None
    weight_zero: int | None = None
    scales: tuple[int | None, int | None] = (None, None)
    bias: int | None = None
    result: int | None = None
    is_computed: bool = True


OPERATORS = {
    "QLinearConv": Operator(0, 3, 2, 5, (1, 4), 8, 6),
    "QLinearMatMul": Operator(0, 3, 2, 5, (1, 4), None, 6),
    "QGemm": Operator(0, 3, 2, 5, (1, 4), 6, 7),
    "MatMulInteger": Operator(0, 1, 2, 3),
    "MatMulIntegerToFloat": Operator(0, 1, 4, 5, (2, 3), 6),
    # These quantize their activations to U8 themselves.
    "DynamicQuantizeMatMul": Operator(0, 1, None, 3, (None, 2), 4),
    "DynamicQuantizeLSTM": Operator(0, 1, is_computed=False),
    "QAttention": Operator(0, 1, is_computed=False),
}


def optimize_file(path: Path) -> onnx.ModelProto:
    """The model as ONNX Runtime runs it, before it lays tensors out for this processor."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        model = onnx.load(str(target), load_external_data=False)
        # Weights that lie in other files are named as the source names them.
        onnx.load_external_data_for_model(model, str(path.parent))
        return model


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that a node of the main graph gives or reads."""
    known = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    known |= {item.name: item.type.tensor_type.elem_type for item in model.graph.input}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = {item.name for item in model.graph.output}
    wanted = [name for node in model.graph.node for name in node.output if name]
    probe.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in wanted if name not in names
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(probe.SerializeToString(), options, ["CPUExecutionProvider"])
    for item in session.get_outputs():
        if item.type.startswith("tensor("):
            known[item.name] = _ELEMENT_TYPES[item.type[7:-1]]
    return known


_ELEMENT_TYPES = {
    "float": onnx.TensorProto.FLOAT,
    "double": onnx.TensorProto.DOUBLE,
    "string": onnx.TensorProto.STRING,
    "bool": onnx.TensorProto.BOOL,
    **{
        name: getattr(onnx.TensorProto, name.upper())
        for name in (
            "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
            "uint64",
        )
    },
}  # fmt: skip


def find_saturating(model: onnx.ModelProto, types: Mapping[str, int]) -> list[onnx.NodeProto]:
    """The nodes with a sum of two products that 16 bits may not hold, whatever the activations."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return [node for node in model.graph.node if _can_saturate(node, constants, types)]


def has_signed_products(model: onnx.ModelProto, types: Mapping[str, int]) -> bool:
    """Whether any product has activations of S8."""
    return any(
        node.op_type in OPERATORS
        and types.get(node.input[OPERATORS[node.op_type].activation]) == onnx.TensorProto.INT8
        for node in model.graph.node
    )


def _can_saturate(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], types: Mapping[str, int]
) -> bool:
    operator = OPERATORS.get(node.op_type)
    if operator is None:
        return False
    weight_name = node.input[operator.weight]
    if types.get(weight_name) != onnx.TensorProto.INT8:
        return False
    if types.get(node.input[operator.activation]) == onnx.TensorProto.INT8:
        return False
    if weight_name not in constants or not operator.is_computed:
        return True
    weight = numpy_helper.to_array(constants[weight_name])
    if node.op_type == "QLinearConv":
        attributes = attributes_of(node)
        # Filters of a single channel are summed in 32 bits by kernels of their own.
        if weight.shape[1] == 1 and attributes.get("group", 1) == weight.shape[0]:
            return False
        return bool(exceeding_pairs(filter_matrix(weight)).any())
    if node.op_type == "QGemm" and attributes_of(node).get("transB", 0):
        weight = weight.T
    matrices = weight.reshape(-1, *weight.shape[-2:]) if weight.ndim > 1 else weight[None, :, None]
    return any(bool(exceeding_pairs(matrix).any()) for matrix in matrices)


def filter_matrix(weight: NDArray) -> NDArray:
    """A filter [M, C, ...] as kernels multiply by it: [taps * C, M], channels innermost."""
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1).T


def exceeding_pairs(matrix: NDArray) -> NDArray[np.bool_]:
    """[K / 2, N]: whether the pair can leave 16 bits for some U8 activations, by channel."""
    upper, lower = split_pairs(matrix.astype(np.int32))
    positive = np.maximum(upper, 0) + np.maximum(lower, 0)
    negative = np.minimum(upper, 0) + np.minimum(lower, 0)
    return (positive > MAX_PAIR) | (negative < -MAX_PAIR)


def split_pairs(matrix: NDArray) -> tuple[NDArray, NDArray]:
    """The first and second of each pair of rows of [K, N]; an odd last row is paired with 0."""
    even = np.pad(matrix, ((0, len(matrix) % 2), (0, 0)))
    return even[0::2], even[1::2]


@cache
def saturates_here() -> bool:
    """Whether this machine's own kernels saturate, by asking ONNX Runtime for a sum that does."""
    size = 8
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [size, size])],
        [numpy_helper.from_array(np.full((size, size), 127, np.int8), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    total = session.run(None, {"x": np.full((size, size), 255, np.uint8)})[0]
    return bool((total != size * 255 * 127).any())
