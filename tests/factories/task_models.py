"""Small models of the tasks and kinds of inputs that people export, each with rows and contract.

Their weights are drawn, but each answers differently on different rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node
Arrays = dict[str, NDArray[Any]]
Draw = Callable[[np.random.Generator, int], Arrays]


@dataclass(frozen=True)
class TaskModel:
    """A model, its contract as a document, and what draws a data set of so many rows."""

    model: onnx.ModelProto
    contract: dict[str, Any]
    draw: Draw


def _random(*shape: int, gain: float = 1.5) -> NDArray[np.float32]:
    fan_in = max(int(np.prod(shape[1:] if len(shape) > 2 else shape[:-1])), 1)
    scale = gain / np.sqrt(fan_in)
    return np.random.default_rng(shape).normal(0, scale, shape).astype(np.float32)


def _value(name: str, shape: list[int | str], kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(item), name) for name, item in weights.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _normal(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return generator.normal(size=shape).astype(np.float32)


def voice_activity() -> TaskModel:
    """A chunk of sound, a state with the rows on its second axis, and a rate of the whole call."""
    nodes = [
        node("Cast", ["sr"], ["rate"], "rate", to=FLOAT),
        node("Div", ["rate", "usual"], ["speed"], "speed"),
        node("Mul", ["input", "speed"], ["sound"], "sound"),
        node("Gather", ["state", "zero"], ["before"], "before", axis=0),
        node("MatMul", ["sound", "w"], ["heard"], "hear"),
        node("MatMul", ["before", "u"], ["known"], "know"),
        node("Add", ["heard", "known"], ["sum"], "sum"),
        node("Tanh", ["sum"], ["h"], "tanh"),
        node("MatMul", ["h", "v"], ["logit"], "decide"),
        node("Sigmoid", ["logit"], ["output"], "sigmoid"),
        node("Gather", ["state", "one"], ["after"], "after", axis=0),
        node("Unsqueeze", ["h", "first"], ["h1"], "h1"),
        node("Unsqueeze", ["after", "first"], ["h2"], "h2"),
        node("Concat", ["h1", "h2"], ["stateN"], "keep", axis=0),
    ]
    weights = {
        "w": _random(256, 64), "u": _random(64, 64), "v": _random(64, 1, gain=4.0),
        "zero": np.int64(0), "one": np.int64(1), "first": np.array([0]),
        "usual": np.float32(16_000),
    }  # fmt: skip
    inputs = [
        _value("input", ["batch", 256]),
        _value("state", [2, "batch", 64]),
        _value("sr", [], INT64),
    ]
    outputs = [_value("output", ["batch", 1]), _value("stateN", [2, "batch", 64])]
    contract = {
        "task": "classification", "form": "binary", "outputs": {"scores": "output"},
        "input_batch_axes": {"state": 1, "sr": None},
    }  # fmt: skip

    def draw(generator: np.random.Generator, rows: int) -> Arrays:
        return {
            "input": _normal(generator, rows, 256),
            "state": 0.5 * _normal(generator, rows, 2, 64),
            "sr": np.array(16_000),
            "y": generator.integers(0, 2, rows),
        }

    return TaskModel(_model(nodes, inputs, outputs, weights), contract, draw)


def echo() -> TaskModel:
    """A state of fixed size that belongs to the call, so that rows go one by one; a regression."""
    nodes = [
        node("Concat", ["x", "memory"], ["both"], "join", axis=1),
        node("MatMul", ["both", "w"], ["a"], "first"),
        node("Relu", ["a"], ["r"], "relu"),
        node("MatMul", ["r", "h"], ["y"], "head"),
        node("Identity", ["memory"], ["memory_out"], "memory"),
    ]
    weights = {"w": _random(96, 128), "h": _random(128, 8)}
    inputs = [_value("x", ["batch", 64]), _value("memory", [1, 32])]
    outputs = [_value("y", ["batch", 8]), _value("memory_out", [1, 32])]
    contract = {
        "task": "regression", "form": "values", "outputs": {"values": "y"}, "values": 8,
        "input_batch_axes": {"memory": None},
    }  # fmt: skip
    return TaskModel(
        _model(nodes, inputs, outputs, weights), contract, lambda g, n: {"x": _normal(g, n, 64)}
    )


def time_first() -> TaskModel:
    """An LSTM over [time, batch, features] that gives letters, the batch on the second axis."""
    nodes = [
        node("LSTM", ["x", "w", "r"], ["all"], "lstm", hidden_size=64),
        node("Squeeze", ["all", "one"], ["steps"], "steps"),
        node("MatMul", ["steps", "h"], ["logits"], "head"),
        node("LogSoftmax", ["logits"], ["letters"], "softmax", axis=-1),
    ]
    weights = {
        "w": _random(1, 256, 16), "r": _random(1, 256, 64), "h": _random(64, 8, gain=6.0),
        "one": np.array([1]),
    }  # fmt: skip
    inputs = [_value("x", ["time", "batch", 16])]
    contract = {
        "task": "sequence", "form": "ctc", "outputs": {"scores": "letters"}, "activation": "exp",
        "blank": 0, "batch_axis": 1, "input_batch_axes": {"x": 1},
    }  # fmt: skip
    return TaskModel(
        _model(nodes, inputs, [_value("letters", ["time", "batch", 8])], weights),
        contract,
        lambda g, n: {"x": 2.0 * _normal(g, n, 12, 16)},
    )


def tokens() -> TaskModel:
    """A layer of attention over token ids, their mask and their types, that tells classes."""
    nodes = [
        node("Gather", ["words", "input_ids"], ["e1"], "words_of"),
        node("Gather", ["kinds", "token_type_ids"], ["e2"], "kinds_of"),
        node("Add", ["e1", "e2"], ["e"], "embed"),
        node("MatMul", ["e", "wq"], ["q"], "query"),
        node("MatMul", ["e", "wk"], ["k"], "key"),
        node("MatMul", ["e", "wv"], ["v"], "value"),
        node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["raw"], "products"),
        node("Cast", ["attention_mask"], ["mask"], "mask", to=FLOAT),
        node("Sub", ["one", "mask"], ["absent"], "absent"),
        node("Mul", ["absent", "far"], ["low"], "low"),
        node("Unsqueeze", ["low", "axis"], ["bias"], "bias"),
        node("Add", ["raw", "bias"], ["masked"], "masked"),
        node("Softmax", ["masked"], ["shares"], "shares", axis=-1),
        node("MatMul", ["shares", "v"], ["seen"], "attend"),
        node("Add", ["seen", "e"], ["kept"], "residual"),
        node("Relu", ["kept"], ["active"], "relu"),
        node("Unsqueeze", ["mask", "last"], ["wide"], "wide"),
        node("Mul", ["active", "wide"], ["present"], "present"),
        node("ReduceSum", ["present", "axis"], ["total"], "total", keepdims=0),
        node("ReduceSum", ["mask", "axis"], ["length"], "length", keepdims=1),
        node("Div", ["total", "length"], ["mean"], "mean"),
        node("MatMul", ["mean", "h"], ["logits"], "head"),
    ]
    weights = {
        "words": _random(300, 48, gain=20.0), "kinds": _random(2, 48), "wq": _random(48, 48),
        "wk": _random(48, 48), "wv": _random(48, 48), "h": _random(48, 4, gain=8.0),
        "one": np.float32(1), "far": np.float32(-10_000), "axis": np.array([1]),
        "last": np.array([2]),
    }  # fmt: skip
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [_value(name, ["batch", "sequence"], INT64) for name in names]
    contract = {
        "task": "classification", "form": "scores", "outputs": {"scores": "logits"},
        "activation": "softmax",
    }  # fmt: skip

    def draw(generator: np.random.Generator, rows: int) -> Arrays:
        lengths = generator.integers(4, 17, rows)
        return {
            "input_ids": generator.integers(0, 300, (rows, 16)),
            "attention_mask": (np.arange(16) < lengths[:, None]).astype(np.int64),
            "token_type_ids": np.tile((np.arange(16) >= 8).astype(np.int64), (rows, 1)),
            "y": generator.integers(0, 4, rows),
        }

    return TaskModel(
        _model(nodes, inputs, [_value("logits", ["batch", 4])], weights), contract, draw
    )


def _stem(source: str = "x") -> tuple[list[Any], Arrays]:
    nodes = [
        node("Conv", [source, "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1] * 4),
        node("Relu", ["c2"], ["r2"], "relu2"),
    ]
    weights = {
        "w1": _random(32, 3, 3, 3), "b1": _random(32, gain=0.1),
        "w2": _random(32, 32, 3, 3), "b2": _random(32, gain=0.1),
    }  # fmt: skip
    return nodes, weights


def _images(generator: np.random.Generator, rows: int) -> Arrays:
    """Pictures with a few bright spots of their own."""
    noise = 0.3 * _normal(generator, rows, 3, 16, 16)
    coarse = np.repeat(np.repeat(_normal(generator, rows, 3, 4, 4), 4, axis=2), 4, axis=3)
    return {"x": coarse + noise}


def picture_and_gain() -> TaskModel:
    """A picture, and one number that belongs to the call; a regression of one value."""
    nodes, weights = _stem("bright")
    nodes = [
        node("Mul", ["x", "gain"], ["bright"], "brighten"),
        *nodes,
        node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "h", "hb"], ["y"], "head"),
    ]
    weights |= {"h": _random(32, 1, gain=8.0), "hb": np.zeros(1, np.float32)}
    inputs = [_value("x", ["batch", 3, 16, 16]), _value("gain", [])]
    contract = {
        "task": "regression", "form": "values", "outputs": {"values": "y"},
        "input_batch_axes": {"gain": None},
    }  # fmt: skip
    return TaskModel(
        _model(nodes, inputs, [_value("y", ["batch", 1])], weights),
        contract,
        lambda g, n: {**_images(g, n), "gain": np.array(1.5, np.float32)},
    )


def detector() -> TaskModel:
    """A YOLO-like head, [batch, 4 + classes, boxes], of one box a place."""
    nodes, weights = _stem()
    nodes += [
        node("Conv", ["r2", "wb"], ["b"], "boxes", strides=[2, 2]),
        node("Sigmoid", ["b"], ["s"], "shift"),
        node("Reshape", ["s", "four"], ["flat"], "flat_boxes"),
        node("Mul", ["flat", "spread"], ["moved"], "spread_boxes"),
        node("Add", ["moved", "grid"], ["placed"], "place"),
        node("Conv", ["r2", "wc", "bc"], ["c"], "classes", strides=[2, 2]),
        node("Sigmoid", ["c"], ["chances"], "chances"),
        node("Reshape", ["chances", "three"], ["scores"], "flat_scores"),
        node("Concat", ["placed", "scores"], ["y"], "join", axis=1),
    ]
    centers = np.indices((8, 8)).reshape(2, 64)[::-1] * 40.0 + 10.0
    grid = np.concatenate([centers, np.full((2, 64), 20.0)])[None].astype(np.float32)
    weights |= {
        "wb": _random(4, 32, 1, 1), "wc": _random(3, 32, 1, 1, gain=4.0),
        "bc": np.full(3, -3.0, np.float32), "spread": np.array(20, np.float32),
        "four": np.array([0, 4, 64]), "three": np.array([0, 3, 64]), "grid": grid,
    }  # fmt: skip
    contract = {
        "task": "detection", "form": "yolo", "outputs": {"boxes": "y"}, "class_axis": 1,
    }  # fmt: skip
    inputs, outputs = [_value("x", ["batch", 3, 16, 16])], [_value("y", ["batch", 7, 64])]
    return TaskModel(_model(nodes, inputs, outputs, weights), contract, _images)


def selecting_detector() -> TaskModel:
    """The same picture through NonMaxSuppression: as many rows as there are boxes."""
    nodes, weights = _stem()
    nodes += [
        node("Conv", ["r2", "wb"], ["b"], "boxes", strides=[2, 2]),
        node("Sigmoid", ["b"], ["s"], "shift"),
        node("Reshape", ["s", "four"], ["flat"], "flat_boxes"),
        node("Transpose", ["flat"], ["turned"], "turn", perm=[0, 2, 1]),
        node("Mul", ["turned", "spread"], ["moved"], "spread_boxes"),
        node("Add", ["moved", "grid"], ["corners"], "place"),
        node("Conv", ["r2", "wc", "bc"], ["c"], "classes", strides=[2, 2]),
        node("Sigmoid", ["c"], ["chances"], "chances"),
        node("Reshape", ["chances", "three"], ["scores"], "flat_scores"),
        node(
            "NonMaxSuppression",
            ["corners", "scores", "most", "overlap", "least"],
            ["selected"],
            "select",
        ),
    ]
    places = np.indices((8, 8)).reshape(2, 64).T * 40.0
    grid = np.concatenate([places, places + 40.0], axis=1)[None].astype(np.float32)
    weights |= {
        "wb": _random(4, 32, 1, 1), "wc": _random(3, 32, 1, 1, gain=4.0),
        "bc": np.full(3, -3.0, np.float32), "spread": np.array(10, np.float32), "grid": grid,
        "four": np.array([0, 4, 64]), "three": np.array([0, 3, 64]),
        "most": np.array([20]), "overlap": np.array([0.5], np.float32),
        "least": np.array([0.5], np.float32),
    }  # fmt: skip
    contract = {
        "task": "detection", "form": "selected", "batch_axis": None,
        "outputs": {"selected": "selected", "boxes": "corners", "scores": "scores"},
    }  # fmt: skip
    outputs = [
        _value("selected", ["found", 3], INT64),
        _value("corners", ["batch", 64, 4]),
        _value("scores", ["batch", 3, 64]),
    ]
    inputs = [_value("x", ["batch", 3, 16, 16])]
    return TaskModel(_model(nodes, inputs, outputs, weights), contract, _images)


def segmenter() -> TaskModel:
    """A class for each pixel."""
    nodes, weights = _stem()
    nodes += [node("Conv", ["r2", "wc"], ["y"], "classes")]
    weights |= {"wc": _random(4, 32, 1, 1)}
    contract = {
        "task": "segmentation", "form": "scores", "outputs": {"scores": "y"}, "class_axis": 1,
        "activation": "softmax",
    }  # fmt: skip
    inputs, outputs = [_value("x", ["batch", 3, "h", "w"])], [_value("y", ["batch", 4, "h", "w"])]
    return TaskModel(_model(nodes, inputs, outputs, weights), contract, _images)


def embedding() -> TaskModel:
    """A vector of length 1."""
    nodes, weights = _stem()
    nodes += [
        node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Sub", ["f", "middle"], ["m"], "center"),
        node("MatMul", ["m", "h"], ["v"], "head"),
        node("ReduceL2", ["v"], ["length"], "length", axes=[1], keepdims=1),
        node("Div", ["v", "length"], ["y"], "unit"),
    ]
    weights |= {"h": _random(32, 64), "middle": np.full(32, 0.7, np.float32)}
    contract = {"task": "embedding", "form": "vector", "outputs": {"vector": "y"}}
    inputs, outputs = [_value("x", ["batch", 3, 16, 16])], [_value("y", ["batch", 64])]
    return TaskModel(_model(nodes, inputs, outputs, weights), contract, _images)


def several_labels() -> TaskModel:
    """Five labels, any of which may hold."""
    nodes, weights = _stem()
    nodes += [
        node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Sub", ["f", "middle"], ["m"], "center"),
        node("MatMul", ["m", "h"], ["logits"], "head"),
        node("Sigmoid", ["logits"], ["y"], "sigmoid"),
    ]
    weights |= {"h": _random(32, 5, gain=20.0), "middle": np.full(32, 0.7, np.float32)}
    contract = {"task": "classification", "form": "multi_label", "outputs": {"scores": "y"}}
    inputs, outputs = [_value("x", ["batch", 3, 16, 16])], [_value("y", ["batch", 5])]
    return TaskModel(_model(nodes, inputs, outputs, weights), contract, _images)


TASK_MODELS: dict[str, Callable[[], TaskModel]] = {
    maker.__name__: maker
    for maker in (
        voice_activity, echo, time_first, tokens, picture_and_gain, detector, selecting_detector,
        segmenter, embedding, several_labels,
    )
}  # fmt: skip
