"""What the graph says of its outputs: the operator behind each, its activation, its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# These pass values on, in another order or type at most.
_TRANSPARENT = frozenset(
    {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout"}
    | {"QuantizeLinear", "DequantizeLinear", "Slice", "Gather", "Clip"}
)
_REGRESSORS = frozenset({"TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor"})
_CLASSIFIERS = frozenset({"TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"})
LINEAR = frozenset(
    {"Gemm", "MatMul", "Add", "Sub", "Conv", "ConvTranspose", "BatchNormalization", "FusedMatMul"}
    | {"MatMulInteger", "QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "FusedConv"}
)
"""Operators after which numbers have no bounds: what ends in one has no activation."""
_CLASS_ATTRIBUTES = (
    "classlabels_int64s",
    "classlabels_ints",
    "classlabels_strings",
)
_WITHIN = frozenset(
    {"ReduceMean", "ReduceMax", "ReduceMin", "GlobalAveragePool", "GlobalMaxPool", "AveragePool"}
    | {"MaxPool"}
)
"""Of numbers from 0 to 1 these make numbers from 0 to 1."""
_MAX_NESTED = 4
"""Branches inside branches that are looked into."""
_WORD_ATTRIBUTES = ("cats_strings", "keys_strings", "pool_strings", "string_vocabulary")
MAX_WORDS = 64
_DEEP = 64


@dataclass(frozen=True)
class OutputFacts:
    """What is seen of one output."""

    name: str
    dtype: str
    """A numpy name, `string`, or `map` for a sequence of maps from class to number."""
    shape: tuple[int | str, ...]
    producer: str
    """The operator that makes it, operators that only pass values on left out."""
    activation: str = ""
    """`softmax`, `sigmoid` or `log_softmax` as the graph has applied it; empty: none is seen."""
    classes: tuple[str | int, ...] = ()
    is_unit_vector: bool = False
    """Its last operators divide it by its length."""
    answers: tuple[Any, ...] = field(default=(), repr=False)
    """What the model gave for it on trial batches of different sizes."""

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith("float") or self.dtype == "bfloat16"

    @property
    def is_whole(self) -> bool:
        return self.dtype.startswith(("int", "uint"))

    @property
    def answer(self) -> NDArray[Any] | None:
        """The last trial's answer, where it is an array."""
        last = self.answers[-1] if self.answers else None
        return last if isinstance(last, np.ndarray) else None

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """The shape as a trial found it, else as the graph declares it."""
        return self.shape if self.answer is None else tuple(self.answer.shape)

    def describe(self) -> str:
        """For people: `scores float32 [batch, 3], made by Gemm`."""
        dims = ", ".join(map(str, self.shape))
        made = f", made by {self.producer}" if self.producer else ""
        return f"{self.name} {self.dtype} [{dims}]{made}"


@dataclass(frozen=True)
class GraphFacts:
    """What is seen of the graph."""

    outputs: tuple[OutputFacts, ...]
    inputs: tuple[Mapping[str, Any], ...]
    operators: frozenset[str]
    metadata: Mapping[str, str]

    def with_answers(self, answers: Sequence[Sequence[Any]]) -> "GraphFacts":
        """The same with what trials gave: one list of outputs per batch."""
        return replace(
            self,
            outputs=tuple(
                replace(output, answers=tuple(found[place] for found in answers))
                for place, output in enumerate(self.outputs)
            ),
        )

    def describe(self) -> str:
        return "; ".join(output.describe() for output in self.outputs)

    def has_regressor(self, output: OutputFacts) -> bool:
        return output.producer in _REGRESSORS


def gather_facts(model: onnx.ModelProto, signature: Mapping[str, Any]) -> GraphFacts:
    """What the parsed graph says; `signature` as `extract_signature` gives it."""
    walk = _Walk(model.graph)
    return GraphFacts(
        outputs=tuple(walk.look_at(item) for item in signature["outputs"]),
        inputs=tuple(signature["inputs"]),
        operators=frozenset(node.op_type for node in model.graph.node),
        metadata={item.key: item.value for item in model.metadata_props},
    )


def words_of(graph: onnx.GraphProto, name: str) -> tuple[str, ...]:
    """Texts that the operators behind an input know: categories, keys, entries of a vocabulary."""
    known, reached = [name], {name}
    for _ in range(_DEEP):
        if not known:
            return ()
        found = [node for node in graph.node if reached.intersection(node.input)]
        for node in found:
            for attribute in _WORD_ATTRIBUTES:
                words = _attribute(node, attribute)
                if words:
                    return tuple(word.decode("utf-8", "replace") for word in words[:MAX_WORDS])
        known = [out for node in found for out in node.output if out and out not in reached]
        reached.update(known)
    return ()


@dataclass(frozen=True)
class _End:
    """What a value ends in."""

    producer: str = ""
    activation: str = ""
    is_unit_vector: bool = False


class _Walk:
    """Goes from outputs backwards, in a branch on into the graph around it."""

    def __init__(self, graph: onnx.GraphProto, around: "_Walk | None" = None) -> None:
        self._makers: dict[str, onnx.NodeProto] = dict(around._makers) if around else {}
        self._tensors: dict[str, onnx.TensorProto] = dict(around._tensors) if around else {}
        self._nested: int = around._nested + 1 if around else 0
        self._makers.update((name, node) for node in graph.node for name in node.output if name)
        self._tensors.update((tensor.name, tensor) for tensor in graph.initializer)

    def look_at(self, item: Mapping[str, Any]) -> OutputFacts:
        name = item["name"]
        end = self._end(name)
        return OutputFacts(
            name=name,
            dtype=item["dtype"],
            shape=tuple(item["shape"]),
            producer=end.producer,
            activation=end.activation,
            classes=self._classes(name),
            is_unit_vector=end.is_unit_vector,
        )

    def _end(self, name: str, left: int = _DEEP) -> _End:
        """What `name` ends in, after at most `left` operators that keep an activation."""
        name = self._source(name)
        node = self._makers.get(name)
        if node is None:
            return _End()
        if node.op_type == "If" and not node.domain:
            return self._end_of_branches(node, list(node.output).index(name), left)
        return _End(node.op_type, self._activation(node, left), self._is_unit_vector(node))

    def _end_of_branches(self, node: onnx.NodeProto, place: int, left: int) -> _End:
        """What all branches agree on: which one runs is not known before."""
        branches = [item.g for item in node.attribute if item.name.endswith("_branch")]
        if self._nested == _MAX_NESTED or any(place >= len(graph.output) for graph in branches):
            return _End(node.op_type)
        ends = {_Walk(graph, self)._end(graph.output[place].name, left) for graph in branches}
        producers = {end.producer for end in ends}
        activations = {end.activation for end in ends}
        return _End(
            producers.pop() if len(producers) == 1 else node.op_type,
            activations.pop() if len(activations) == 1 else "",
            all(end.is_unit_vector for end in ends) and bool(ends),
        )

    def _source(self, name: str) -> str:
        """Where the values of `name` come from, nodes that pass values on left out."""
        for _ in range(_DEEP):
            node = self._makers.get(name)
            if node is None or node.op_type not in _TRANSPARENT or not node.input:
                return name
            name = node.input[0]
        return ""

    def _maker(self, name: str) -> onnx.NodeProto | None:
        """The node behind `name`, those that pass values on left out."""
        return self._makers.get(self._source(name))

    def _activation(self, node: onnx.NodeProto, left: int) -> str:
        found = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
        kind = node.op_type
        if kind in found:
            return found[kind]
        if kind == "HardSigmoid":
            return "sigmoid"
        if kind in ("Log", *_WITHIN) and node.input and left:
            before = self._end(node.input[0], left - 1).activation
            if kind == "Log":
                return "log_softmax" if before == "softmax" else ""
            return "sigmoid" if before == "sigmoid" else ""
        if kind == "Div" and self._is_softmax_by_hand(node):
            return "softmax"
        if kind == "Div" and self._is_sigmoid_by_hand(node):
            return "sigmoid"
        post = _attribute(node, "post_transform")
        if post in (b"SOFTMAX", b"SOFTMAX_ZERO"):
            return "softmax"
        if post == b"LOGISTIC":
            return "sigmoid"
        return ""

    def _is_softmax_by_hand(self, node: onnx.NodeProto) -> bool:
        """exp(x) over its sum, as exporters without a Softmax write it."""
        above, below = (self._maker(name) for name in node.input)
        return (
            above is not None
            and below is not None
            and above.op_type == "Exp"
            and below.op_type == "ReduceSum"
            and self._maker(below.input[0]) is above
        )

    def _is_sigmoid_by_hand(self, node: onnx.NodeProto) -> bool:
        """1 over (1 + exp(-x))."""
        below = self._maker(node.input[1])
        if below is None or below.op_type != "Add":
            return False
        parts = [self._maker(name) for name in below.input]
        return any(part is not None and part.op_type == "Exp" for part in parts)

    def _is_unit_vector(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "LpNormalization":
            return _attribute(node, "p") in (None, 2)
        if node.op_type == "Normalizer":
            return _attribute(node, "norm") == b"L2"
        if node.op_type != "Div":
            return False
        below: str = node.input[1]
        for _ in range(4):  # Clip, Expand, Max: a floor against division by 0
            maker = self._makers.get(below)
            if maker is None:
                return False
            if maker.op_type in ("ReduceL2", "Sqrt"):
                return True
            if not maker.input:
                return False
            below = maker.input[0]
        return False

    def _classes(self, name: str) -> tuple[str | int, ...]:
        """What the operators behind an output call its classes."""
        for _ in range(_DEEP):
            node = self._makers.get(name)
            if node is None:
                return ()
            for attribute in _CLASS_ATTRIBUTES:
                found = _attribute(node, attribute)
                if found:
                    return tuple(
                        item.decode() if isinstance(item, bytes) else int(item) for item in found
                    )
            if node.op_type == "ArrayFeatureExtractor" and node.input[0] in self._tensors:
                return self._constant(node.input[0])
            if not node.input:
                return ()
            name = node.input[0]
        return ()

    def _constant(self, name: str) -> tuple[str | int, ...]:
        values = numpy_helper.to_array(self._tensors[name]).reshape(-1)
        if values.dtype.kind in "iu":
            return tuple(int(value) for value in values)
        return tuple(
            value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()
        )


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return None
