"""An ONNX graph that runs in an array library with its own weights trainable.

The trained values go back into the same graph, so nothing is exported anew: names, operators and
signature stay as they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compression.engine.graph.structure import attributes_of
from compression.engine.training.engines import Array, Arrays, Engine, load_engine
from compression.engine.training.operators import FOLDABLE, OPERATORS, READ_PLACES, Node
from compression.exceptions import ModelUnsupportedError

# Which inputs of which operators are learned where they are FP32 initializers.
_LEARNED: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
}
_LEARNED_IF_WIDE: dict[str, tuple[int, ...]] = {
    "Add": (0, 1),
    "Mul": (0, 1),
    "Sub": (0, 1),
    "Div": (0, 1),
}
_RUNNING: dict[str, tuple[int, ...]] = {"BatchNormalization": (3, 4)}
_PLAIN_DOMAINS = ("", "ai.onnx")
# Numbers of a constant that may become part of the compiled program; larger ones are handed to it.
_MAX_BUILT_IN = 4096
_NUMPY = Arrays()


@dataclass(frozen=True)
class _Call:
    compute: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_batch_norm: bool
    is_foldable: bool
    read_places: tuple[int, ...]


class GraphExecutor:
    """A graph's weights as arrays, and its nodes as calls in order.

    Attributes:
        engine: the array library it runs on.
        parameters: learned arrays by initializer name.
        statistics: running means and variances by initializer name.
        frozen: large arrays that stay as they are, by name.
        follows_batch: whether training uses and updates the statistics of batch norms.
    """

    def __init__(
        self, model: onnx.ModelProto, *, follows_batch: bool = False, engine: Engine | None = None
    ) -> None:
        """Reads the graph.

        Args:
            model: left as it is; `write_back` gives a copy.
            follows_batch: whether batch norms use the statistics of the batch while training and
                update the running ones; False keeps the stored ones, as for a trained model.
            engine: None takes the one that is installed.

        Raises:
            ModelUnsupportedError: naming the operators that cannot be trained through, or where
                no weight could be learned.
        """
        check_operators(model)
        self.engine = engine or load_engine()
        self.follows_batch = follows_batch
        self._model = model
        learned = find_learned(model)
        running = _used_at(model, _RUNNING)
        self.parameters: dict[str, Array] = {}
        self.statistics: dict[str, Array] = {}
        self.frozen: dict[str, Array] = {}
        self._constants: dict[str, NDArray] = {}
        for name, value in _read_constants(model).items():
            if name in learned:
                self.parameters[name] = self.engine.to_array(value)
            elif name in running:
                self.statistics[name] = self.engine.to_array(value)
            elif value.size > _MAX_BUILT_IN:
                self.frozen[name] = self.engine.to_array(value)
            else:
                self._constants[name] = value
        if not self.parameters:
            raise ModelUnsupportedError("The graph has no FP32 weight that could be learned.")
        self.outputs = [item.name for item in model.graph.output]
        self._calls = list(_build_calls(model))
        self._answer = self.engine.compile(self._answer_plainly)

    def compute(
        self,
        weights: dict[str, Array],
        feeds: dict[str, Array],
        *,
        is_training: bool = False,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The graph's outputs [N, ...] and the statistics as they are afterwards, by name.

        A pure function, to be compiled and differentiated.

        Args:
            weights: parameters, statistics and frozen arrays by name.
            feeds: inputs by name.
        """
        values: dict[str, Any] = {"": None, **self._constants, **weights, **feeds}
        statistics = {name: weights[name] for name in self.statistics}
        follows = is_training and self.follows_batch
        for call in self._calls:
            inputs = [values[name] for name in call.inputs]
            if call.is_batch_norm and follows:
                result, *moved = call.compute(self.engine, *inputs, follows_batch=True)
                statistics.update(zip(call.inputs[3:5], moved, strict=True))
            elif call.is_foldable and all(isinstance(x, np.ndarray | None) for x in inputs):
                # Of arrays without axes NumPy gives plain numbers.
                result = call.compute(_NUMPY, *inputs)
                is_one = not isinstance(result, tuple)
                result = np.asarray(result) if is_one else tuple(map(np.asarray, result))
            else:
                result = call.compute(self.engine, *self._convert(inputs, call.read_places))
            if isinstance(result, tuple):
                values.update(zip(call.outputs, result, strict=True))
            else:
                values[call.outputs[0]] = result
        return {name: values[name] for name in self.outputs}, statistics

    def run(self, feeds: dict[str, NDArray]) -> list[NDArray]:
        """The graph's outputs in order for inputs by name, each [N, ...]."""
        outputs = self._answer(self.weights, self._take_in(feeds))
        return [self.engine.to_numpy(outputs[name]) for name in self.outputs]

    @property
    def weights(self) -> dict[str, Array]:
        """All that `compute` wants beside the inputs."""
        return {**self.frozen, **self.statistics, **self.parameters}

    def list_leading_to(self, outputs: list[str]) -> set[str]:
        """The parameters that the named outputs depend on."""
        wanted = set(outputs)
        for call in reversed(self._calls):
            if wanted & set(call.outputs):
                wanted.update(call.inputs)
        return wanted & set(self.parameters)

    def snapshot(self) -> dict[str, NDArray]:
        """Copies of all that training changes, by initializer name."""
        arrays = {**self.parameters, **self.statistics}
        return {name: self.engine.to_numpy(value) for name, value in arrays.items()}

    def restore(self, values: dict[str, NDArray]) -> None:
        """Sets what `snapshot` gave."""
        for group in (self.parameters, self.statistics):
            group.update({name: self.engine.to_array(values[name]) for name in group})

    def write_back(self) -> onnx.ModelProto:
        """A copy of the model with the present values in its initializers."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        values = self.snapshot()
        for tensor in copy.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        return copy

    def _answer_plainly(
        self, weights: dict[str, Array], feeds: dict[str, Array]
    ) -> dict[str, Array]:
        outputs, _ = self.compute(weights, feeds)
        return {name: self._convert([value], ())[0] for name, value in outputs.items()}

    def _take_in(self, feeds: dict[str, NDArray]) -> dict[str, Array]:
        return {name: self.engine.to_array(value) for name, value in feeds.items()}

    def _convert(self, inputs: list[Any], read_places: tuple[int, ...]) -> list[Any]:
        return [
            self.engine.to_array(value)
            if isinstance(value, np.ndarray) and place not in read_places
            else value
            for place, value in enumerate(inputs)
        ]


def check_operators(model: onnx.ModelProto) -> None:
    """Refuses a graph with operators that training has no rule for, all of them named."""
    unknown = {
        node.op_type if node.domain in _PLAIN_DOMAINS else f"{node.domain}.{node.op_type}"
        for node in model.graph.node
        if node.domain not in _PLAIN_DOMAINS
        or (node.op_type not in OPERATORS and node.op_type != "Constant")
    }
    if unknown:
        raise ModelUnsupportedError(
            f"Training has no rule for {', '.join(sorted(unknown))}; "
            f"it knows {len(OPERATORS)} operators of float graphs."
        )


def find_learned(model: onnx.ModelProto) -> set[str]:
    """FP32 initializers that every node using them may learn.

    Scalars in arithmetic are part of a formula, and what meets the graph's input directly is its
    preprocessing: both stay.
    """
    floats = {
        tensor.name: int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    fed = {item.name for item in model.graph.input} - set(floats)
    learned: set[str] = set()
    fixed = {item.name for item in model.graph.output}
    for node in model.graph.node:
        is_arithmetic = node.op_type in _LEARNED_IF_WIDE
        places = _LEARNED.get(node.op_type, _LEARNED_IF_WIDE.get(node.op_type, ()))
        for place, name in enumerate(node.input):
            if name not in floats:
                continue
            is_formula = is_arithmetic and (floats[name] == 1 or bool(fed & set(node.input)))
            (learned if place in places and not is_formula else fixed).add(name)
    return learned - fixed


def _used_at(model: onnx.ModelProto, places: dict[str, tuple[int, ...]]) -> set[str]:
    return {
        node.input[place] for node in model.graph.node for place in places.get(node.op_type, ())
    }


def _read_constants(model: onnx.ModelProto) -> dict[str, NDArray]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = _constant_value(node)
    return arrays


def _constant_value(node: onnx.NodeProto) -> NDArray:
    ((name, value),) = attributes_of(node).items()
    if name == "value":
        return numpy_helper.to_array(value)
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    raise ModelUnsupportedError(f"Training does not support a Constant of {name}.")


def _build_calls(model: onnx.ModelProto) -> Iterable[_Call]:
    opset = next(item.version for item in model.opset_import if item.domain in _PLAIN_DOMAINS)
    for item in model.graph.node:
        if item.op_type == "Constant":
            continue
        outputs = tuple(name for name in item.output if name)
        node = Node(item.op_type, item.name or outputs[0], attributes_of(item), opset, len(outputs))
        compute = OPERATORS[item.op_type](node)
        yield _Call(
            compute,
            tuple(item.input),
            outputs,
            is_batch_norm=item.op_type == "BatchNormalization",
            is_foldable=item.op_type in FOLDABLE,
            read_places=READ_PLACES.get(item.op_type, ()),
        )
