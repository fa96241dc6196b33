"""An ONNX graph that runs in PyTorch with its own weights trainable.

The trained values go back into the same graph, so nothing is exported anew: names, operators and
signature stay as they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from compression.engine.graph.structure import attributes_of
from compression.engine.training.operators import OPERATORS, Node
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


@dataclass(frozen=True)
class _Call:
    compute: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_batch_norm: bool


class GraphExecutor:
    """A graph's weights as tensors, and its nodes as calls in order.

    Attributes:
        parameters: learned tensors by initializer name.
        statistics: running means and variances by initializer name.
    """

    def __init__(self, model: onnx.ModelProto, *, follows_batch: bool = False) -> None:
        """Reads the graph.

        Args:
            model: left as it is; `write_back` gives a copy.
            follows_batch: whether batch norms use the statistics of the batch while training and
                update the running ones; False keeps the stored ones, as for a trained model.

        Raises:
            ModelUnsupportedError: naming the operators that cannot be trained through, or where
                no weight could be learned.
        """
        check_operators(model)
        self._model = model
        self._follows_batch = follows_batch
        arrays = _read_constants(model)
        learned = find_learned(model)
        running = _used_at(model, _RUNNING)
        self.parameters: dict[str, Tensor] = {}
        self.statistics: dict[str, Tensor] = {}
        self._constants: dict[str, Tensor] = {}
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.array(array))
            if name in learned:
                self.parameters[name] = tensor.requires_grad_()
            elif name in running:
                self.statistics[name] = tensor
            else:
                self._constants[name] = tensor
        if not self.parameters:
            raise ModelUnsupportedError("The graph has no FP32 weight that could be learned.")
        self.outputs = [item.name for item in model.graph.output]
        self._calls = list(_build_calls(model))

    def run(self, feeds: dict[str, Tensor], *, is_training: bool = False) -> list[Tensor]:
        """The graph's outputs in order for inputs by name, each [N, ...]."""
        values: dict[str, Any] = {
            "": None,
            **self._constants,
            **self.statistics,
            **self.parameters,
            **feeds,
        }
        follows = {"follows_batch": is_training and self._follows_batch}
        for call in self._calls:
            inputs = [values[name] for name in call.inputs]
            result = call.compute(*inputs, **(follows if call.is_batch_norm else {}))
            if len(call.outputs) == 1 and not isinstance(result, tuple):
                values[call.outputs[0]] = result
            else:
                values.update(zip(call.outputs, result, strict=True))
        return [values[name] for name in self.outputs]

    def snapshot(self) -> dict[str, NDArray]:
        """Copies of all that training changes, by initializer name."""
        tensors = {**self.parameters, **self.statistics}
        return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}

    def restore(self, values: dict[str, NDArray]) -> None:
        """Sets what `snapshot` gave."""
        tensors = {**self.parameters, **self.statistics}
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(torch.from_numpy(value))

    def write_back(self) -> onnx.ModelProto:
        """A copy of the model with the present values in its initializers."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        values = self.snapshot()
        for tensor in copy.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        return copy


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
        is_batch_norm = item.op_type == "BatchNormalization"
        yield _Call(compute, tuple(item.input), outputs, is_batch_norm)
