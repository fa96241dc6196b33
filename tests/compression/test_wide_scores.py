"""Scores that are not rounded to 8 bits on their way out."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compression.engine.graph.wide_scores import leave_scores_wide
from compression.measure.sessions import open_session

GENERATOR = np.random.default_rng(4)
X = GENERATOR.integers(0, 255, (5, 16)).astype(np.uint8)
CONSTANTS = {
    "x_scale": np.float32(0.02),
    "x_zero": np.uint8(120),
    # Seven bits, as the default writes them: no processor saturates.
    "w": GENERATOR.integers(-64, 65, (4, 16)).astype(np.int8),
    "w_scale": GENERATOR.uniform(0.01, 0.02, 4).astype(np.float32),
    "w_zero": np.zeros(4, np.int8),
    "bias": GENERATOR.integers(-900, 900, 4).astype(np.int32),
    "y_scale": np.float32(0.1),
    "y_zero": np.uint8(128),
    "other": np.float32(0.2),
}


def make_model(scale="y_scale", extra=()):
    nodes = [
        helper.make_node(
            "QGemm", ["x", *list(CONSTANTS)[:8]], ["q"], "gemm", domain="com.microsoft", transB=1
        ),
        helper.make_node("DequantizeLinear", ["q", scale, "y_zero"], ["scores"], "wide"),
    ]
    outputs = [("scores", TensorProto.FLOAT), *extra]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, 16])],
        [helper.make_tensor_value_info(name, kind, [None, 4]) for name, kind in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def scores_of(model):
    return open_session(model.SerializeToString()).run(["scores"], {"x": X})[0]


def test_a_product_gives_its_scores_in_fp32_at_once():
    model = make_model()
    rounded = scores_of(model)
    leave_scores_wide(model.graph)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["QGemm"]
    assert "y_scale" not in {tensor.name for tensor in model.graph.initializer}
    weights = CONSTANTS["w"] * CONSTANTS["w_scale"][:, None]
    bias = CONSTANTS["bias"] * CONSTANTS["w_scale"] * 0.02
    exact = (X.astype(np.float64) - 120) * 0.02 @ weights.T + bias
    scores = scores_of(model)
    assert np.abs(scores - exact).max() < 1e-4
    assert np.abs(rounded - exact).max() > 1e-2


def test_a_product_that_something_else_reads_or_that_is_rescaled_stays():
    for model in (make_model(extra=[("q", TensorProto.UINT8)]), make_model(scale="other")):
        before = scores_of(model)
        leave_scores_wide(model.graph)
        assert [node.op_type for node in model.graph.node] == ["QGemm", "DequantizeLinear"]
        assert np.array_equal(scores_of(model), before)
