"""Products of every kind of bias are quantized, and those a recipe excludes are not."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.graph.biases import flatten_biases
from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from tests.factories.passes import run_pass

FLOAT = TensorProto.FLOAT
ROWS = 64
make = helper.make_node


def random(*shape, seed=0, scale=0.3):
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(np.float32)


def model_of(nodes, weights, rows="N"):
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", FLOAT, [rows, 32])],
        [helper.make_tensor_value_info("y", FLOAT, [rows, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def gemms(bias, rows="N", **attributes):
    nodes = [
        make("Gemm", ["x", "w", "b"], ["a"], "first", **attributes),
        make("Relu", ["a"], ["r"], "relu"),
        make("Gemm", ["r", "h", "hb"], ["y"], "head"),
    ]
    return model_of(
        nodes, {"w": random(32, 32), "b": bias, "h": random(32, 4), "hb": random(4)}, rows
    )


def matmuls():
    nodes = [
        make("MatMul", ["x", "w"], ["p"], "first"),
        make("Add", ["p", "b"], ["a"], "add"),
        make("Relu", ["a"], ["r"], "relu"),
        make("MatMul", ["r", "h"], ["y"], "head"),
    ]
    return model_of(nodes, {"w": random(32, 32), "b": random(1, 32), "h": random(32, 4)})


def answer(model, values):
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": values})[0]


def compress(folder, model, pass_name, is_prepared=False, **parameters):
    result, path = run_pass(
        pass_name,
        model,
        folder,
        is_prepared=is_prepared,
        parameters=parameters,
        calibration=Samples({"x": random(ROWS, 32, scale=1.0)}, None),
    )
    return onnx.load(str(path)), result.excluded


BIASES = {
    "a row": random(32),
    "one row of two axes": random(1, 32),
    "a scalar": np.float32(0.5),
    "one value": np.float32([0.5]),
    "one value of two axes": np.float32([[0.5]]),
}
STATIC = {
    "operators": ("quantize.static", {"format": "qoperator"}),
    "pairs": ("quantize.static", {"format": "qdq"}),
    "dynamic": ("quantize.dynamic", {}),
    "mixed": ("mixed.search", {}),
}


@pytest.mark.parametrize("case", STATIC)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (2.0, -1.0)])
def test_a_product_with_any_bias_is_quantized(bias, case, alpha, beta, tmp_path):
    name, parameters = STATIC[case]
    model = gemms(BIASES[bias], alpha=alpha, beta=beta)
    variant, _ = compress(tmp_path, model, name, **parameters)
    values = random(16, 32, seed=7, scale=1.0)
    expected, found = answer(model, values), answer(variant, values)
    assert np.abs(found - expected).max() < 0.15 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS, 32)])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_bias_with_a_value_per_row_is_added_behind_the_product(shape, beta, tmp_path):
    model = gemms(random(*shape), rows=ROWS, beta=beta, transB=1)
    values = random(ROWS, 32, scale=1.0)
    expected = answer(model, values)
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    flatten_biases(flat.graph)
    onnx.checker.check_model(flat, full_check=True)
    assert [node.op_type for node in flat.graph.node] == ["Gemm", "Add", "Relu", "Gemm"]
    np.testing.assert_allclose(answer(flat, values), expected, atol=1e-5)
    for format_name in ("qoperator", "qdq"):
        variant, _ = compress(tmp_path, model, "quantize.static", format=format_name)
        found = answer(variant, values)
        assert np.abs(found - expected).max() < 0.15 * np.abs(expected).max()


def test_a_bias_that_two_products_read_serves_both():
    nodes = [
        make("Gemm", ["x", "w", "b"], ["a"], "first"),
        make("Gemm", ["a", "w", "b"], ["c"], "second"),
        make("Add", ["c", "b"], ["d"], "add"),
        make("Gemm", ["d", "h"], ["y"], "head"),
    ]
    model = model_of(nodes, {"w": random(32, 32), "b": random(1, 32), "h": random(32, 4)})
    values = random(8, 32, seed=7, scale=1.0)
    expected = answer(model, values)
    flatten_biases(model.graph)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(answer(model, values), expected, atol=1e-5)


@pytest.mark.parametrize("is_prepared", [False, True])
@pytest.mark.parametrize("source", [lambda: gemms(random(32), transB=1), matmuls])
@pytest.mark.parametrize("case", ["operators", "pairs", "dynamic"])
def test_excluded_products_stay_in_fp32_whatever_they_become(case, source, is_prepared, tmp_path):
    name, parameters = STATIC[case]
    both = ["first", "head"]
    plain, _ = compress(tmp_path / "plain", source(), name, is_prepared, **parameters)
    assert sum(item.data_type != FLOAT for item in plain.graph.initializer if len(item.dims) == 2)
    variant, excluded = compress(
        tmp_path / "excluded", source(), name, is_prepared, exclude=both, **parameters
    )
    weights = [item for item in variant.graph.initializer if list(item.dims)[:1] == [32]]
    assert [item.data_type for item in weights if len(item.dims) == 2] == [FLOAT, FLOAT]
    assert len(excluded) == 2


@pytest.mark.parametrize(
    "name", ["quantize.dynamic", "quantize.static", "quantize.weights", "convert.fp16"]
)
def test_an_excluded_name_that_no_node_has_is_refused(name, tmp_path):
    with pytest.raises(ModelUnsupportedError, match="'typo'"):
        compress(tmp_path, matmuls(), name, exclude=["typo"])
