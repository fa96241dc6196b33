"""Whatever its tensors and nodes are called, a model compresses to the same answers."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.graph.names import reserve_names
from compression.engine.pruning.normalize import normalize_model
from compression.measure.samples import Samples
from compression.recipe.recipe import Target
from tests.factories.passes import run_pass

ROWS = 64
FLOAT = TensorProto.FLOAT


def random(*shape, seed=0, scale=0.3):
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(np.float32)


def network(names, node_names=()):
    """Two convolutions with scales behind them, its tensors called as `names` says."""
    called = lambda name: names.get(name, name)  # noqa: E731
    plain = [
        ("Conv", ["x", "first", "bias"], ["c"], {"pads": [1] * 4}),
        ("Relu", ["c"], ["r"], {}),
        ("Mul", ["r", "gain"], ["m"], {}),
        ("Conv", ["m", "second", "bias"], ["d"], {"pads": [1] * 4}),
        ("Relu", ["d"], ["s"], {}),
        ("Mul", ["s", "other_gain"], ["n"], {}),
        ("GlobalAveragePool", ["n"], ["pooled"], {}),
        ("Flatten", ["pooled"], ["flat"], {}),
        ("Gemm", ["flat", "head", "head_bias"], ["y"], {}),
    ]
    nodes = [
        helper.make_node(
            op,
            [called(name) for name in inputs],
            [called(name) for name in outputs],
            node_names[index] if node_names else f"node{index}",
            **attributes,
        )
        for index, (op, inputs, outputs, attributes) in enumerate(plain)
    ]
    weights = {
        "first": random(32, 3, 3, 3),
        "bias": random(32),
        "gain": np.abs(random(1, 32, 1, 1)) + 0.5,
        "second": random(32, 32, 3, 3, scale=0.1),
        "other_gain": np.abs(random(1, 32, 1, 1, seed=1)) + 0.5,
        "head": random(32, 4),
        "head_bias": random(4),
    }
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(called("x"), FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(called("y"), FLOAT, ["N", 4])],
        [numpy_helper.from_array(value, called(name)) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def answers(model, feed):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content).run(None, feed)


def images(name="x"):
    values = np.random.default_rng(3).normal(size=(ROWS, 3, 8, 8)).astype(np.float32)
    return {name: values}


def compress(folder, model, pass_name, isa="portable", feed=None, **parameters):
    samples = Samples(feed or images(), None)
    _, path = run_pass(
        pass_name,
        model,
        folder,
        is_prepared=False,
        parameters=parameters,
        target=Target(isa=isa),
        calibration=samples,
    )
    return path.read_bytes()


PASS_CASES = {
    "dynamic": ("quantize.dynamic", {}),
    "operators": ("quantize.static", {"format": "qoperator"}),
    "pairs": ("quantize.static", {"format": "qdq"}),
    "npu": ("quantize.static", {"isa": "npu"}),
    "w8": ("quantize.weights", {"bits": 8}),
    "w16": ("quantize.weights", {"bits": 16}),
    "half": ("convert.fp16", {}),
    "mixed": ("mixed.search", {}),
}
# Each begins with the name of another tensor of the same model, as what a pass adds does.
TAKEN = {
    "scales": {"gain": "first_scale", "other_gain": "second_scale"},
    "quantized weights": {"gain": "first_quantized", "other_gain": "second_zero_point"},
    "stored weights": {"gain": "first_stored", "other_gain": "second_stored"},
    "halves": {"gain": "first_half", "c": "x_as_10", "r": "head_half"},
    "the output's": {"d": "y_inner", "s": "y_quantized", "n": "y_QuantizeLinear_Output"},
    "the input's": {"d": "x_scale", "s": "x_quantized", "n": "x_QuantizeLinear_Output"},
    "counted biases": {"c": "bias0", "d": "bias1", "r": "bias_quantized"},
    "pairs": {"gain": "first_DequantizeLinear_Output", "n": "r_DequantizeLinear_Output"},
    "ours": {"gain": "t:0", "other_gain": "t:1", "r": "t:01"},
}


@pytest.mark.parametrize("case", PASS_CASES)
def test_names_a_pass_would_add_change_nothing_where_the_model_has_them(case, tmp_path):
    name, parameters = PASS_CASES[case]
    expected = answers(compress(tmp_path / "plain", network({}), name, **parameters), images())[0]
    source = answers(network({}), images())[0]
    assert np.abs(expected - source).max() < 0.2 * np.abs(source).max()
    for index, (taken, names) in enumerate(TAKEN.items()):
        variant = compress(tmp_path / f"taken{index}", network(names), name, **parameters)
        found = answers(variant, images())[0]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3, err_msg=taken)


@pytest.mark.parametrize("case", PASS_CASES)
def test_inputs_and_outputs_keep_their_names_when_one_begins_the_other(case, tmp_path):
    name, parameters = PASS_CASES[case]
    for index, names in enumerate(
        ({"y": "x_scale"}, {"y": "x_quantized"}, {"y": "x_as_10"}, {"x": "y_inner"})
    ):
        feed = images(names.get("x", "x"))
        model = network(names)
        variant = compress(tmp_path / f"{index}", model, name, feed=feed, **parameters)
        session = ort.InferenceSession(variant)
        assert [item.name for item in session.get_inputs()] == [names.get("x", "x")]
        assert [item.name for item in session.get_outputs()] == [names.get("y", "y")]
        source = answers(model, feed)[0]
        found = session.run(None, feed)[0]
        assert np.abs(found - source).max() < 0.2 * np.abs(source).max(), names


# Nine nodes: without names, with one that a nameless one would get, and with ones that passes add.
NODE_NAMES = {
    "none": [""] * 9,
    "counted": ["", "Conv_0", "Conv_3", "", "Conv_0_", "a", "b", "c", "d"],
    "added": ["a", "a_quant", "a_scales_mul", "b", "b_quant", "b_bias_add", "c", "d", "d_MatMul"],
}


@pytest.mark.parametrize("node_names", NODE_NAMES)
@pytest.mark.parametrize("case", PASS_CASES)
def test_names_of_nodes_change_nothing(case, node_names, tmp_path):
    name, parameters = PASS_CASES[case]
    model = network({}, NODE_NAMES[node_names])
    variant = compress(tmp_path / "named", model, name, **parameters)
    source, found = answers(model, images())[0], answers(variant, images())[0]
    assert np.abs(found - source).max() < 0.2 * np.abs(source).max()
    names = [node.name for node in onnx.load_from_string(variant).graph.node if node.name]
    assert len(names) == len(set(names))


def branching():
    """An If whose branches read outer tensors and have inner ones called like added ones."""
    make = helper.make_node

    def branch(operator):
        out = helper.make_tensor_value_info("w_quantized", FLOAT, ["N", 32])
        nodes = [
            make("Mul", ["h", "w_scale"], ["h_quantized"], "times"),
            make(operator, ["h_quantized", "x"], ["w_quantized"], "joined"),
        ]
        scale = numpy_helper.from_array(np.float32([2.0]), "w_scale")
        return helper.make_graph(nodes, operator, [], [out], [scale])

    nodes = [
        make("MatMul", ["x", "w"], ["h"], "product"),
        make("ReduceSum", ["h"], ["total"], "sum", keepdims=0),
        make("Greater", ["total", "zero"], ["is_positive"], "greater"),
        make(
            "If",
            ["is_positive"],
            ["chosen"],
            "if",
            then_branch=branch("Add"),
            else_branch=branch("Sub"),
        ),
        make("MatMul", ["chosen", "v"], ["y"], "head"),
    ]
    weights = {"w": random(32, 32), "v": random(32, 4), "zero": np.float32(0)}
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 32])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("sign", [1, -1])
def test_names_inside_branches_are_reserved_too(sign, tmp_path):
    values = np.abs(random(ROWS, 32)) * np.sign(random(32, 32).sum(axis=1)) * sign
    feed = {"x": values.astype(np.float32)}
    model = branching()
    expected = answers(model, feed)[0]
    np.testing.assert_array_equal(answers(reserve_names(branching()), feed)[0], expected)
    for name in ("quantize.dynamic", "quantize.weights"):
        found = answers(compress(tmp_path / name, model, name, feed=feed), feed)[0]
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max(), name


def test_a_shared_bias_is_copied_under_a_name_nothing_has():
    model = network({"c": "bias__2"})
    copied = normalize_model(model)
    onnx.checker.check_model(copied, full_check=True)
    np.testing.assert_array_equal(answers(copied, images())[0], answers(model, images())[0])
