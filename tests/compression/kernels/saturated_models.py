"""Small INT8 models whose 16-bit sums saturate, and what kernels that saturate answer to them.

`saturated.npz` was recorded where ONNX Runtime's own kernels saturate, by
`python -m tests.compression.kernels.saturated_models`; elsewhere that refuses.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compression.measure.kernels.products import saturates_here
from compression.measure.sessions import open_session

RECORDED = Path(__file__).with_name("saturated.npz")
Tensors = dict[str, NDArray[Any]]


def _constants(generator: np.random.Generator, weight: tuple[int, ...], channels: int) -> Tensors:
    return {
        "x_scale": np.asarray(0.02, np.float32),
        "x_zero": np.asarray(113, np.uint8),
        "w": generator.integers(-127, 128, weight).astype(np.int8),
        "w_scale": generator.uniform(0.01, 0.02, channels).astype(np.float32),
        "w_zero": np.zeros(channels, np.int8),
        "y_scale": np.asarray(0.9, np.float32),
        "y_zero": np.asarray(101, np.uint8),
        "bias": generator.integers(-900, 900, channels).astype(np.int32),
    }


def _build(
    node: onnx.NodeProto, constants: Tensors, shape: tuple[int, ...], kinds: tuple[int, int]
) -> onnx.ModelProto:
    used = {name: value for name, value in constants.items() if name in node.input}
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", kinds[0], ["N", *shape])],
        [helper.make_tensor_value_info("y", kinds[1], None)],
        [numpy_helper.from_array(value, name) for name, value in used.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _convolution(
    weight: tuple[int, ...], shape: tuple[int, ...], *, has_bias: bool = True, **attributes: Any
) -> tuple[onnx.ModelProto, tuple[int, ...], bool]:
    constants = _constants(np.random.default_rng(sum(weight)), weight, weight[0])
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
    node = helper.make_node(
        "QLinearConv", [*names, *(["bias"] if has_bias else [])], ["y"], "node", **attributes
    )
    return _build(node, constants, shape, (TensorProto.UINT8, TensorProto.UINT8)), shape, False


def _product(
    operator: str, inputs: int, outputs: int, **attributes: Any
) -> tuple[onnx.ModelProto, tuple[int, ...], bool]:
    is_transposed = bool(attributes.get("transB"))
    weight = (outputs, inputs) if is_transposed else (inputs, outputs)
    constants = _constants(np.random.default_rng(inputs), weight, outputs)
    real = {"real_bias": np.linspace(-3, 3, outputs).astype(np.float32)}
    scales = ["x_scale", "x_zero", "w", "w_scale", "w_zero"]
    names = {
        "QLinearMatMul": ["x", *scales, "y_scale", "y_zero"],
        "QGemm": ["x", *scales, "bias", "y_scale", "y_zero"],
        "QGemm, FP32": ["x", *scales, "bias"],
        "MatMulInteger": ["x", "w", "x_zero", "w_zero"],
        "MatMulIntegerToFloat": ["x", "w", "x_scale", "w_scale", "x_zero", "w_zero", "real_bias"],
        "DynamicQuantizeMatMul": ["x", "w", "w_scale", "w_zero", "real_bias"],
    }[operator]
    kind = operator.partition(",")[0]
    is_standard = kind in ("QLinearMatMul", "MatMulInteger")
    node = helper.make_node(
        kind, names, ["y"], "node", domain="" if is_standard else "com.microsoft", **attributes
    )
    is_float = kind == "DynamicQuantizeMatMul"
    result = {
        "QLinearMatMul": TensorProto.UINT8,
        "QGemm": TensorProto.UINT8,
        "MatMulInteger": TensorProto.INT32,
    }.get(operator, TensorProto.FLOAT)
    kinds = (TensorProto.FLOAT if is_float else TensorProto.UINT8, result)
    return _build(node, constants | real, (inputs,), kinds), (inputs,), is_float


MODELS = {
    "1x1": _convolution((24, 16, 1, 1), (16, 5, 5)),
    "3x3": _convolution((16, 8, 3, 3), (8, 7, 7), pads=[1, 1, 1, 1]),
    "without a bias": _convolution((8, 8, 3, 3), (8, 5, 5), has_bias=False),
    "odd channels": _convolution((10, 7, 3, 3), (7, 6, 6), pads=[1, 1, 1, 1]),
    "three channels": _convolution((16, 3, 3, 3), (3, 9, 9), strides=[2, 2], pads=[1, 1, 1, 1]),
    "one channel": _convolution((16, 1, 5, 5), (1, 9, 9), pads=[2, 2, 2, 2]),
    "stride and dilation": _convolution(
        (12, 6, 3, 3), (6, 11, 11), strides=[2, 2], dilations=[2, 2], pads=[2, 1, 0, 1]
    ),
    "same, upper": _convolution((8, 5, 3, 3), (5, 6, 6), strides=[2, 2], auto_pad="SAME_UPPER"),
    "same, lower": _convolution((8, 5, 2, 2), (5, 6, 6), auto_pad="SAME_LOWER"),
    "valid": _convolution((8, 4, 3, 3), (4, 6, 6), auto_pad="VALID"),
    "groups": _convolution((16, 4, 3, 3), (8, 6, 6), group=2, pads=[1, 1, 1, 1]),
    "groups of odd width": _convolution((9, 3, 3, 3), (9, 6, 6), group=3, pads=[1, 1, 1, 1]),
    "two filters a channel": _convolution((16, 1, 3, 3), (8, 6, 6), group=8, pads=[1, 1, 1, 1]),
    "each channel alone": _convolution((16, 1, 3, 3), (16, 6, 6), group=16, pads=[1, 1, 1, 1]),
    "one axis": _convolution((8, 6, 3), (6, 12), pads=[1, 1]),
    "three axes": _convolution((8, 4, 2, 2, 2), (4, 4, 4, 4)),
    "deep": _convolution((8, 96, 3, 3), (96, 4, 4), pads=[1, 1, 1, 1]),
    **{
        f"{operator}, {inputs}": _product(operator, inputs, 13)
        for operator in (
            "QLinearMatMul", "QGemm", "QGemm, FP32", "MatMulInteger", "MatMulIntegerToFloat",
            "DynamicQuantizeMatMul",
        )
        for inputs in (16, 37, 1030)
    },
    "QGemm, transposed": _product("QGemm", 35, 9, transB=1),
    "QGemm, alpha": _product("QGemm, FP32", 24, 9, transB=1, alpha=0.5),
}  # fmt: skip


def draw(name: str, rows: int) -> Tensors:
    """Large activations, for which sums of 16 bits do saturate."""
    _, shape, is_float = MODELS[name]
    generator = np.random.default_rng(len(name))
    values = generator.integers(90, 256, (rows, *shape)).astype(np.uint8)
    return {"x": values.astype(np.float32) / 100 - 0.5 if is_float else values}


def answer_here(name: str, rows: int) -> NDArray[Any]:
    """What this machine's kernels answer."""
    session = open_session(MODELS[name][0].SerializeToString())
    return np.asarray(session.run(None, draw(name, rows))[0])


def record() -> None:
    """Writes what the kernels of a machine that saturates answer."""
    if not saturates_here():
        raise SystemExit("The kernels of this machine do not saturate; nothing is recorded.")
    answers = {f"{name}/{rows}": answer_here(name, rows) for name in MODELS for rows in (1, 3)}
    np.savez_compressed(RECORDED, **answers)


if __name__ == "__main__":
    record()
