"""Graphs as exporters of scikit-learn, keyword spotters, detectors and text models write them.

Each maker gives the graph alone; what it means stands in `tests/contract/test_reading.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
SEED = 7
Value = onnx.ValueInfoProto


def tensor(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def value(name: str, kind: int, shape: Sequence[int | str | None]) -> Value:
    return helper.make_tensor_value_info(name, kind, list(shape))


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    tensors: Sequence[onnx.TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(tensors))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def linear(*nodes: onnx.NodeProto, width: int = 3, out: str = "y", shape: Any = None) -> bytes:
    """`logits = x W`, then the nodes that make `out` of it."""
    weights = np.random.default_rng(SEED).normal(size=(4, width))
    return model_of(
        [helper.make_node("MatMul", ["x", "W"], ["logits"]), *nodes],
        [value("x", FLOAT, ["batch", 4])],
        [value(out, FLOAT, shape or ["batch", width])],
        [tensor("W", weights)],
    )


def one_sigmoid() -> bytes:
    """A wake-word model: one probability a row, with its batch fixed to 1."""
    weights = np.random.default_rng(SEED).normal(size=(4, 1))
    return model_of(
        [
            helper.make_node("MatMul", ["x", "W"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["score"]),
        ],
        [value("x", FLOAT, [1, 4])],
        [value("score", FLOAT, [1, 1])],
        [tensor("W", weights)],
    )


def branches(first: str = "Sigmoid", second: str = "Sigmoid") -> bytes:
    """A wake-word model whose second network runs where the first is sure: an If at the end."""
    weights = np.random.default_rng(SEED).normal(size=(4, 1))
    out = [value("score", FLOAT, ["batch", 1])]
    graphs = {
        f"{name}_branch": helper.make_graph(
            [
                helper.make_node(kind, ["logits"], [f"{name}_out"]),
                helper.make_node("Identity", [f"{name}_out"], ["score"]),
            ],
            name, [], out,
        )
        for name, kind in (("then", first), ("else", second))
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["logits"]),
        helper.make_node("ReduceMax", ["logits"], ["highest"], keepdims=0),
        helper.make_node("Greater", ["highest", "zero"], ["is_sure"]),
        helper.make_node("If", ["is_sure"], ["y"], **graphs),
    ]
    return model_of(
        nodes,
        [value("x", FLOAT, ["batch", 4])],
        [value("y", FLOAT, ["batch", 1])],
        [tensor("W", weights), tensor("zero", 0.0)],
    )


def mean_of_steps() -> bytes:
    """A speech model: a probability for each step, of which a row's is the mean."""
    return linear(
        helper.make_node("Sigmoid", ["logits"], ["steps"]),
        helper.make_node("ReduceMean", ["steps"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["y"]),
        helper.make_node("Constant", [], ["last"], value=tensor("l", [1], np.int64)),
        shape=["batch", 1],
    )


def as_many_classes_as_numbers() -> bytes:
    """A text and three numbers a row, and three classes: an input's shape is the scores' too."""
    nodes = [
        helper.make_node(
            "LabelEncoder", ["colour"], ["code"], domain="ai.onnx.ml",
            keys_strings=["pale", "dark"], values_floats=[-1.0, 1.0],
        ),
        helper.make_node("Mul", ["numbers", "code"], ["mixed"]),
        helper.make_node(
            "LinearClassifier", ["mixed"], ["label", "raw"], domain="ai.onnx.ml",
            coefficients=np.eye(3).ravel().tolist(), intercepts=[0.0, 0.0, 0.0],
            classlabels_ints=[0, 1, 2], post_transform="SOFTMAX",
        ),
        helper.make_node("Normalizer", ["raw"], ["probabilities"], domain="ai.onnx.ml", norm="L1"),
    ]  # fmt: skip
    inputs = [value("colour", STRING, [None, 1]), value("numbers", FLOAT, [None, 3])]
    outputs = [value("label", INT64, [None]), value("probabilities", FLOAT, [None, 3])]
    return model_of(nodes, inputs, outputs, [])


def softmax_by_hand() -> bytes:
    return linear(
        helper.make_node("ReduceMax", ["logits"], ["top"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["logits", "top"], ["low"]),
        helper.make_node("Exp", ["low"], ["powers"]),
        helper.make_node("ReduceSum", ["powers", "axes"], ["total"], keepdims=1),
        helper.make_node("Div", ["powers", "total"], ["y"]),
        helper.make_node("Constant", [], ["axes"], value=tensor("a", [1], np.int64)),
    )


def forest(*, zipmap: bool, classes: Sequence[int | str]) -> bytes:
    """skl2onnx's tree classifier: a label, and probabilities as an array or a sequence of maps."""
    texts = isinstance(classes[0], str)
    names = {("classlabels_strings" if texts else "classlabels_int64s"): list(classes)}
    count = len(classes)
    low = [0.2 / (count - 1)] * (count - 1)
    tree = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0] * (2 * count),
        class_nodeids=[1] * count + [2] * count,
        class_ids=[*range(count)] * 2,
        class_weights=[0.7, *[0.3 / (count - 1)] * (count - 1), *low, 0.8],
        post_transform="NONE",
        **names,
    )
    kind = STRING if texts else INT64
    if not zipmap:
        outputs = [
            value("label", kind, [None]),
            value("probabilities", FLOAT, [None, count]),
        ]
        return model_of([tree], [value("x", FLOAT, [None, 4])], outputs)
    maps = helper.make_node(
        "ZipMap", ["probabilities"], ["output_probability"], domain="ai.onnx.ml", **names
    )
    inner = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(FLOAT, []))
    sequence = helper.make_value_info("output_probability", helper.make_sequence_type_proto(inner))
    label = helper.make_node("Identity", ["label"], ["output_label"])
    outputs = [value("output_label", kind, [None]), sequence]
    return model_of([tree, label, maps], [value("x", FLOAT, [None, 4])], outputs)


def regressor() -> bytes:
    node = helper.make_node(
        "LinearRegressor",
        ["x"],
        ["variable"],
        domain="ai.onnx.ml",
        coefficients=[1.0, 2.0, 3.0, 4.0],
        intercepts=[0.5],
    )
    return model_of([node], [value("x", FLOAT, [None, 4])], [value("variable", FLOAT, [None, 1])])


def outliers() -> bytes:
    """skl2onnx's outlier detectors: a label of −1 or 1 beside one score."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["scores"], keepdims=1),
        helper.make_node("Less", ["scores", "zero"], ["is_low"]),
        helper.make_node("Cast", ["is_low"], ["low"], to=INT64),
        helper.make_node("Mul", ["low", "minus_two"], ["shifted"]),
        helper.make_node("Add", ["shifted", "one"], ["label"]),
    ]
    tensors = [
        tensor("axes", [1], np.int64), tensor("zero", [0.0]),
        tensor("minus_two", [-2], np.int64), tensor("one", [1], np.int64),
    ]  # fmt: skip
    outputs = [value("label", INT64, [None, 1]), value("scores", FLOAT, [None, 1])]
    return model_of(nodes, [value("x", FLOAT, [None, 4])], outputs, tensors)


def yolo(*, fields_first: bool, classes: int = 3, boxes: int = 100) -> bytes:
    """A head without suppression: `[1, 4 + classes, boxes]`, or `[1, boxes, 5 + classes]`."""
    generator = np.random.default_rng(SEED)
    fields = 4 + classes if fields_first else 5 + classes
    table = generator.random((boxes, fields)) * 0.2
    table[:3, 4:] = [[0.1, 0.9, 0.1, 0.9][: fields - 4]] * 3  # the same thing thrice
    table[:3, :4] = [[20, 20, 10, 10], [20, 21, 10, 10], [60, 60, 10, 10]]
    whole = table.T if fields_first else table
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["output0"]),
    ]
    tensors = [tensor("table", whole[None]), tensor("zero", [0.0])]
    inputs = [value("x", FLOAT, [1, 3, 8, 8])]
    return model_of(nodes, inputs, [value("output0", FLOAT, [1, *whole.shape])], tensors)


def ssd() -> bytes:
    """Boxes, classes, scores and a count, an output each, as TensorFlow's detectors have them."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["b", "nothing"], ["detection_boxes"]),
        helper.make_node("Add", ["s", "nothing"], ["detection_scores"]),
        helper.make_node("Add", ["c", "nothing"], ["detection_classes"]),
        helper.make_node("Add", ["n", "nothing"], ["num_detections"]),
    ]
    tensors = [
        tensor("b", [[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]]]), tensor("zero", [0.0]),
        tensor("s", [[0.9, 0.6, 0.1]]), tensor("c", [[2, 1, 0]]), tensor("n", [2]),
    ]  # fmt: skip
    outputs = [
        value("detection_boxes", FLOAT, [1, 3, 4]), value("detection_scores", FLOAT, [1, 3]),
        value("detection_classes", FLOAT, [1, 3]), value("num_detections", FLOAT, [1]),
    ]  # fmt: skip
    return model_of(nodes, [value("x", FLOAT, [1, 3, 8, 8])], outputs, tensors)


def segmenter(*nodes: onnx.NodeProto, out: Value | None = None) -> bytes:
    """Three scores a pixel by a convolution of one pixel."""
    weights = np.random.default_rng(SEED).normal(size=(3, 3, 1, 1))
    return model_of(
        [helper.make_node("Conv", ["x", "W"], ["logits"]), *nodes],
        [value("x", FLOAT, ["batch", 3, 16, 16])],
        [out or value("logits", FLOAT, ["batch", 3, 16, 16])],
        [tensor("W", weights)],
    )


def flags() -> bytes:
    """Three chances a row, joined as skl2onnx joins them, beside a 0 or 1 for each."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["chances"]),
        helper.make_node("Split", ["chances", "widths"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["a", "b"], ["probabilities"], axis=1),
        helper.make_node("Greater", ["chances", "half"], ["is_above"]),
        helper.make_node("Cast", ["is_above"], ["label"], to=INT64),
    ]
    outputs = [value("label", INT64, ["batch", 3]), value("probabilities", FLOAT, ["batch", 3])]
    weights = np.random.default_rng(SEED).normal(size=(4, 3))
    return model_of(
        nodes,
        [value("x", FLOAT, ["batch", 4])],
        outputs,
        [tensor("W", weights), tensor("half", 0.5), tensor("widths", [1, 2], np.int64)],
    )


def letters() -> bytes:
    """A softmax over ten letters for each of 16 columns of a picture."""
    weights = np.random.default_rng(SEED).normal(size=(48, 10))
    nodes = [
        helper.make_node("Reshape", ["x", "steps"], ["columns"]),
        helper.make_node("MatMul", ["columns", "W"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=-1),
    ]
    tensors = [tensor("W", weights), tensor("steps", [0, 16, 48], np.int64)]
    inputs = [value("x", FLOAT, ["batch", 3, 16, 16])]
    return model_of(nodes, inputs, [value("y", FLOAT, ["batch", 16, 10])], tensors)


def embedding() -> bytes:
    """A vector of length 1 out of token ids and their mask."""
    table = np.random.default_rng(SEED).normal(size=(32, 6))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["tokens", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "steps"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Max", ["norm", "floor"], ["safe"]),
        helper.make_node("Div", ["sum", "safe"], ["sentence_embedding"]),
    ]
    tensors = [
        tensor("table", table), tensor("last", [2], np.int64), tensor("steps", [1], np.int64),
        tensor("floor", [1e-9]),
    ]  # fmt: skip
    inputs = [
        value("input_ids", INT64, ["batch", "sequence"]),
        value("attention_mask", INT64, ["batch", "sequence"]),
    ]
    return model_of(nodes, inputs, [value("sentence_embedding", FLOAT, ["batch", 6])], tensors)


def speech() -> bytes:
    """Logarithms of letters' probabilities, the steps on the first axis and the batch on the
    second."""
    weights = np.random.default_rng(SEED).normal(size=(2, 5))
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    inputs = [value("x", FLOAT, ["time", "batch", 2])]
    return model_of(
        nodes, inputs, [value("log_probs", FLOAT, ["time", "batch", 5])], [tensor("W", weights)]
    )


def voice_activity() -> bytes:
    """One probability a chunk, a state that goes back in, and a rate that belongs to the call."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Cast", ["sr"], ["rate"], to=FLOAT),
        helper.make_node("Mul", ["rate", "zero"], ["nothing"]),
        helper.make_node("Add", ["mean", "nothing"], ["raised"]),
        helper.make_node("Sigmoid", ["raised"], ["output"]),
        helper.make_node("Identity", ["state"], ["stateN"]),
    ]
    inputs = [
        value("input", FLOAT, ["batch", "samples"]),
        value("state", FLOAT, [2, "batch", 4]),
        value("sr", INT64, []),
    ]
    outputs = [value("output", FLOAT, ["batch", 1]), value("stateN", FLOAT, [2, "batch", 4])]
    return model_of(nodes, inputs, outputs, [tensor("zero", 0.0)])


def categories() -> bytes:
    """skl2onnx's pipeline of a text column and a number, with encoders that refuse other texts."""
    nodes = [
        helper.make_node(
            "OneHotEncoder", ["city"], ["hot"], domain="ai.onnx.ml",
            cats_strings=["bonn", "oslo", "riga"], zeros=0,
        ),
        helper.make_node("Reshape", ["hot", "flat"], ["columns"]),
        helper.make_node("Concat", ["columns", "a"], ["all"], axis=1),
        helper.make_node(
            "LinearClassifier", ["all"], ["label", "probabilities"], domain="ai.onnx.ml",
            coefficients=[1.0, -1, 0.5, 2, -1, 1, -0.5, -2], intercepts=[0.1, -0.1],
            classlabels_ints=[0, 1], post_transform="SOFTMAX",
        ),
    ]  # fmt: skip
    inputs = [value("city", STRING, [None, 1]), value("a", FLOAT, [None, 1])]
    outputs = [value("label", INT64, [None]), value("probabilities", FLOAT, [None, 2])]
    return model_of(nodes, inputs, outputs, [tensor("flat", [-1, 3], np.int64)])
