"""FP16 follows what operators take, and keeps what it cannot hold."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.passes.context import PassContext
from compression.engine.passes.half import convert_fp16

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
ROWS, WIDTH = 4, 32
make = helper.make_node


def random(*shape, seed=0, scale=0.3):
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(np.float32)


def model_of(middle, weights, opset=17, shape=("N", WIDTH), rows=WIDTH):
    """`middle` between two products: it reads `a`, and `m` with `rows` columns is read from it."""
    nodes = [
        make("MatMul", ["x", "entry"], ["a"], "entry"),
        *middle,
        make("MatMul", ["m", "head"], ["y"], "head"),
    ]
    values = {"entry": random(WIDTH, WIDTH), "head": random(rows, 4), **weights}
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def recurrent(operator, gates):
    """Starts from zeros of the batch's size, as exporters write it."""
    states = ["zeros", "zeros"] if operator == "LSTM" else ["zeros"]
    middle = [
        make("Unsqueeze", ["a", "first"], ["sequence"], "unsqueeze"),
        make("Shape", ["a"], ["shape"], "shape"),
        make("Slice", ["shape", "first", "second"], ["batch"], "slice"),
        make("Concat", ["second", "batch", "hidden"], ["state_shape"], "concat", axis=0),
        make("ConstantOfShape", ["state_shape"], ["zeros"], "zeros", value=tensor(0.0)),
        make(
            operator, ["sequence", "w", "r", "", "", *states], ["", "last"], "cell", hidden_size=16
        ),
        make("Squeeze", ["last", "first"], ["m"], "squeeze"),
    ]
    weights = {
        "w": random(1, 16 * gates, WIDTH),
        "r": random(1, 16 * gates, 16),
        "first": np.array([0]),
        "second": np.array([1]),
        "hidden": np.array([16]),
    }
    return model_of(middle, weights, rows=16)


def tensor(value, kind=np.float32):
    return numpy_helper.from_array(np.array([value], kind), "value")


def with_range():
    middle = [
        make("Range", ["start", "end", "step"], ["steps"], "range"),
        make("Mul", ["a", "steps"], ["m"], "times"),
    ]
    return model_of(
        middle, {"start": np.float32(0), "end": np.float32(WIDTH), "step": np.float32(1)}
    )


def suppressed():
    middle = [
        make("Reshape", ["a", "as_boxes"], ["boxes"], "boxes"),
        make("ReduceSum", ["boxes", "last"], ["sums"], "sums", keepdims=0),
        make("Unsqueeze", ["sums", "one"], ["scores"], "scores"),
        make("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["kept"], "nms"),
        make("Cast", ["kept"], ["numbers"], "cast", to=FLOAT),
        make("ReduceMax", ["numbers"], ["largest"], "largest", keepdims=0),
        make("Add", ["a", "largest"], ["m"], "add"),
    ]
    weights = {
        "as_boxes": np.array([-1, 8, 4]),
        "last": np.array([2]),
        "one": np.array([1]),
        "most": np.array([3]),
        "iou": np.float32([0.5]),
    }
    return model_of(middle, weights)


def in_sequence():
    middle = [
        make("SequenceConstruct", ["a", "a"], ["both"], "construct"),
        make("ConcatFromSequence", ["both"], ["joined"], "join", axis=1),
        make("Slice", ["joined", "from", "to", "axis"], ["m"], "slice"),
    ]
    weights = {"from": np.array([WIDTH]), "to": np.array([2 * WIDTH]), "axis": np.array([1])}
    return model_of(middle, weights)


def resized():
    middle = [
        make("Reshape", ["a", "as_image"], ["image"], "image"),
        make("Resize", ["image", "", "scales"], ["larger"], "resize", mode="linear"),
        make("AveragePool", ["larger"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["pooled"], ["m"], "flatten"),
    ]
    weights = {"as_image": np.array([-1, 2, 4, 4]), "scales": np.float32([1, 1, 2, 2])}
    return model_of(middle, weights)


def masked(op):
    """Attention's mask: -1e9 where nothing may be looked at."""
    if op == "Add":
        middle = [make("Mul", ["mask", "minus"], ["large"], "large")]
        middle.append(make("Add", ["a", "large"], ["looked"], "masked"))
    else:
        middle = [make("Where", ["is_masked", "minus", "a"], ["looked"], "masked")]
    middle += [make("Softmax", ["looked"], ["s"], "softmax"), make("Mul", ["s", "n"], ["m"], "n")]
    weights = {
        "mask": np.arange(WIDTH, dtype=np.float32) % 2,
        "is_masked": np.arange(WIDTH) % 2 == 1,
        "minus": np.float32(-1e9),
        "n": np.float32(8),
    }
    return model_of(middle, weights)


def one(operator, inputs=("a",), outputs=("m",), weights=None, opset=17, **attributes):
    node = make(operator, list(inputs), list(outputs), "middle", **attributes)
    return model_of([node], weights or {}, opset)


def like(operator, **attributes):
    nodes = [make(operator, ["a"], ["other"], "like", **attributes)]
    nodes += [make("Mul", ["other", "little"], ["small"], "small")]
    return model_of([*nodes, make("Add", ["a", "small"], ["m"], "add")], {"little": np.float32(0)})


MODELS = {
    "LSTM": lambda: recurrent("LSTM", 4),
    "GRU": lambda: recurrent("GRU", 3),
    "RNN": lambda: recurrent("RNN", 1),
    "Range": with_range,
    "NonMaxSuppression": suppressed,
    "sequence": in_sequence,
    "Resize": resized,
    "mask added": lambda: masked("Add"),
    "mask chosen": lambda: masked("Where"),
    "RandomNormalLike": lambda: like("RandomNormalLike"),
    "RandomUniformLike of FP32": lambda: like("RandomUniformLike", dtype=FLOAT),
    "CumSum 13": lambda: one("CumSum", ("a", "axis"), weights={"axis": np.array(1)}, opset=13),
    "CumSum 14": lambda: one("CumSum", ("a", "axis"), weights={"axis": np.array(1)}, opset=14),
    "TopK": lambda: one("TopK", ("a", "k"), ("m", "i"), {"k": np.array([WIDTH])}, axis=1),
    "LayerNormalization": lambda: one(
        "LayerNormalization",
        ("a", "scale", "shift"),
        ("m", "mean", "deviation"),
        {"scale": random(WIDTH), "shift": random(WIDTH)},
    ),
    "OneHot": lambda: model_of(
        [
            make("ArgMax", ["a"], ["best"], "best", axis=1, keepdims=0),
            make("OneHot", ["best", "depth", "pair"], ["hot"], "hot"),
            make("Add", ["a", "hot"], ["m"], "add"),
        ],
        {"depth": np.array(WIDTH), "pair": np.float32([0, 1])},
    ),
    "EyeLike": lambda: model_of(
        [make("EyeLike", ["a"], ["eye"], "eye"), make("Add", ["a", "eye"], ["m"], "add")], {}
    ),
    "CastLike": lambda: model_of(
        [
            make("Greater", ["a", "zero"], ["above"], "above"),
            make("CastLike", ["above", "a"], ["flag"], "flag"),
            make("Mul", ["a", "flag"], ["m"], "mul"),
        ],
        {"zero": np.float32(0)},
    ),
    "Clip without bounds": lambda: one(
        "Clip",
        ("a", "low", "high"),
        weights={"low": np.float32(-3.4e38), "high": np.float32(3.4e38)},
    ),
}


def convert(folder, model):
    onnx.save(model, str(folder / "model.onnx"))
    path = folder / "half.onnx"
    context = PassContext(folder / "model.onnx", path, folder / "model.onnx", folder)
    result = convert_fp16(context)
    return onnx.load(str(path)), result.excluded


def answer(model, values):
    session = ort.InferenceSession(model.SerializeToString())
    assert session.get_outputs()[0].type == "tensor(float)"
    return session.run(None, {"x": values})[0]


@pytest.mark.parametrize("name", MODELS)
def test_operators_that_take_no_fp16_keep_what_they_take(name, tmp_path):
    model = MODELS[name]()
    values = random(ROWS, WIDTH, scale=1.0)
    half, excluded = convert(tmp_path, model)
    expected, found = answer(model, values), answer(half, values)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    stored = [item.data_type for item in half.graph.initializer if list(item.dims) == [WIDTH] * 2]
    assert stored == [HALF]
    assert "entry" not in excluded


def norm(*after):
    return [
        make("Mul", ["a", "a"], ["squares"], "squares"),
        make("ReduceSum", ["squares", "axis"], ["sum"], "sum"),
        *after,
    ]


GUARDS = {
    "smallest root": norm(
        make("Sqrt", ["sum"], ["n"], "root"),
        make("Max", ["n", "least"], ["d"], "guard"),
        make("Div", ["a", "d"], ["m"], "divide"),
    ),
    "clipped root": norm(
        make("Sqrt", ["sum"], ["n"], "root"),
        make("Clip", ["n", "least"], ["d"], "guard"),
        make("Reciprocal", ["d"], ["q"], "reciprocal"),
        make("Mul", ["a", "q"], ["m"], "divide"),
    ),
    "added before the root": norm(
        make("Add", ["sum", "least"], ["n"], "guard"),
        make("Sqrt", ["n"], ["d"], "root"),
        make("Div", ["a", "d"], ["m"], "divide"),
    ),
    "a constant node": norm(
        make("Constant", [], ["tiny"], "tiny", value_float=1e-12),
        make("Add", ["sum", "tiny"], ["n"], "guard"),
        make("Pow", ["n", "half"], ["d"], "root"),
        make("Div", ["a", "d"], ["m"], "divide"),
    ),
}


@pytest.mark.parametrize("name", GUARDS)
def test_a_divisor_kept_from_zero_stays_so(name, tmp_path):
    weights = {"least": np.float32(1e-12), "axis": np.array([1]), "half": np.float32(0.5)}
    model = model_of(GUARDS[name], weights)
    half, excluded = convert(tmp_path, model)
    assert {"guard", "divide"} <= set(excluded)
    assert excluded["guard"] == "a constant of 1e-12 is lost in FP16"
    assert not {"entry", "head"} & set(excluded)
    for values in (np.zeros((ROWS, WIDTH), np.float32), random(ROWS, WIDTH, scale=1.0)):
        np.testing.assert_allclose(answer(half, values), answer(model, values), atol=0.01)


def test_one_tiny_weight_keeps_no_product_in_fp32(tmp_path):
    model = model_of([make("Relu", ["a"], ["m"], "relu")], {})
    weight = random(WIDTH, WIDTH)
    weight[0, 0] = 1e-12
    entry = next(item for item in model.graph.initializer if item.name == "entry")
    entry.CopyFrom(numpy_helper.from_array(weight, "entry"))
    assert convert(tmp_path, model)[1] == {}
