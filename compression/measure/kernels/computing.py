"""Sessions that compute a model's INT8 products as the kernels of another processor do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compression.engine.graph.order import names_read
from compression.engine.graph.structure import attributes_of
from compression.exceptions import ModelUnsupportedError
from compression.measure.kernels.arithmetic import multiply, requantize, shift, unfold
from compression.measure.kernels.products import (
    OPERATORS,
    filter_matrix,
    find_saturating,
    optimize_file,
    saturates_here,
    tensor_types,
)

Values = dict[str, NDArray[Any]]


def needs_computing(path: Path, *, is_saturating: bool) -> bool:
    """Whether sums of that kind are other ones than those of this machine's own kernels."""
    if is_saturating == saturates_here():
        return False
    model = optimize_file(path)
    return bool(find_saturating(model, tensor_types(model)))


class ComputingSession:
    """Runs a model like a session of ONNX Runtime; products that can saturate are computed here.

    All other nodes run in ONNX Runtime, in stretches between those products.

    Raises:
        ModelUnsupportedError: a product that can saturate is inside an operator that is not
            computed here.
    """

    def __init__(
        self, whole: ort.InferenceSession, path: Path, threads: int, is_saturating: bool
    ) -> None:
        """`whole`: ONNX Runtime's session on the file at `path`."""
        self.is_saturating = is_saturating
        self._whole = whole
        self._threads = threads
        model = optimize_file(path)
        types = tensor_types(model)
        self._constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        computed = find_saturating(model, types)
        for node in computed:
            if not OPERATORS[node.op_type].is_computed:
                raise ModelUnsupportedError(f"Sums inside {node.op_type} are not computed here.")
        self._stretches = _Stretches(model, types, {id(node) for node in computed}, threads)

    def get_inputs(self) -> Sequence[Any]:
        """As of the session of ONNX Runtime."""
        return list(self._whole.get_inputs())

    def get_outputs(self) -> Sequence[Any]:
        """As of the session of ONNX Runtime."""
        return list(self._whole.get_outputs())

    def run(self, names: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]) -> list[Any]:
        """The named outputs, or all, for one batch."""
        values: Values = {**self._constants, **feed}
        for part in self._stretches.parts:
            if isinstance(part, onnx.NodeProto):
                values[part.output[0]] = self._compute(part, values)
            else:
                session, inputs, outputs = part
                results = session.run(outputs, {name: values[name] for name in inputs})
                values.update(zip(outputs, results, strict=True))
        return [values[name] for name in names or [item.name for item in self.get_outputs()]]

    def _compute(self, node: onnx.NodeProto, values: Values) -> NDArray[Any]:
        operands = [values[name] if name else None for name in node.input]
        if node.op_type == "QLinearConv":
            return self._convolve(node, operands)
        return self._multiply(node, operands)

    def _convolve(self, node: onnx.NodeProto, operands: list[Any]) -> NDArray[Any]:
        x, x_scale, x_zero, weight, weight_scale, weight_zero, y_scale, y_zero = operands[:8]
        bias = operands[8] if len(operands) > 8 else None
        attributes = attributes_of(node)
        if attributes.get("channels_last"):
            raise ModelUnsupportedError("A convolution with the channels last is not computed.")
        zero = int(np.asarray(x_zero).reshape(-1)[0])
        seen, places = unfold(x, weight.shape[2:], attributes, zero)
        groups = attributes.get("group", 1)
        width, inputs = len(weight) // groups, weight.shape[1]
        sums = []
        for group in range(groups):
            rows = seen[:, :, group * inputs : (group + 1) * inputs].reshape(len(seen), -1)
            matrix = filter_matrix(weight[group * width : (group + 1) * width])
            total = multiply(rows, matrix, is_saturating=self.is_saturating)
            weight_zeros = _per_channel(weight_zero, len(weight))[group * width :][:width]
            sums.append(shift(total, rows, matrix, zero, weight_zeros))
        total = np.concatenate(sums, axis=1)
        if bias is not None:
            total = total + bias.astype(np.int64)
        scale = x_scale.astype(np.float32) * weight_scale.astype(np.float32) / y_scale
        answer = requantize(total, scale.reshape(-1), int(y_zero.reshape(-1)[0]), y_zero.dtype)
        return np.moveaxis(answer.reshape(len(x), *places, -1), -1, 1)

    def _multiply(self, node: onnx.NodeProto, operands: list[Any]) -> NDArray[Any]:
        operator = OPERATORS[node.op_type]
        attributes = attributes_of(node)

        def operand(place: int | None) -> Any:
            return operands[place] if place is not None and place < len(operands) else None

        x, weight = operands[operator.activation], operands[operator.weight]
        x_scale, x_zero = operand(operator.scales[0]), operand(operator.activation_zero)
        if node.op_type == "DynamicQuantizeMatMul":
            x, x_scale, x_zero = quantize_dynamically(x)
        x = x.T if attributes.get("transA") else x
        weight = weight.T if attributes.get("transB") else weight
        zero = 0 if x_zero is None else int(np.asarray(x_zero).reshape(-1)[0])
        if weight.ndim != 2:
            raise ModelUnsupportedError(f"{node.op_type} of a weight of {weight.ndim} axes.")
        rows = x.reshape(-1, x.shape[-1])
        total = multiply(rows, weight, is_saturating=self.is_saturating)
        zeros = _per_channel(operand(operator.weight_zero), weight.shape[1])
        total = shift(total, rows, weight, zero, zeros)
        shape = (*x.shape[:-1], weight.shape[1])
        if node.op_type == "MatMulInteger":
            return total.astype(np.int32).reshape(shape)
        weight_scale = np.asarray(operand(operator.scales[1]), np.float32).reshape(-1)
        scale = np.asarray(x_scale, np.float32).reshape(-1) * weight_scale
        scale = scale * np.float32(attributes.get("alpha", 1.0))
        bias = operand(operator.bias)
        if node.op_type == "QGemm" and bias is not None:
            total = total + bias.astype(np.int64)
        result = operand(operator.result)
        if result is not None:
            y_zero = np.asarray(operands[operator.result + 1])  # type: ignore[operator]
            scale = scale / np.asarray(result, np.float32).reshape(-1)
            answer = requantize(total, scale, int(y_zero.reshape(-1)[0]), y_zero.dtype)
            return answer.reshape(shape)
        scores = total.astype(np.float32) * scale
        if node.op_type != "QGemm" and bias is not None:
            scores = scores + bias
        return scores.reshape(shape)


class _Stretches:
    """The graph as a list of computed nodes and of sessions for what lies between them."""

    def __init__(
        self, model: onnx.ModelProto, types: Mapping[str, int], computed: set[int], threads: int
    ) -> None:
        self._model = model
        self._types = types
        self._threads = threads
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        nodes = list(model.graph.node)
        self._last_use: dict[str, int] = {}
        for index, node in enumerate(nodes):
            for name in names_read(node):
                self._last_use[name] = index
        for item in model.graph.output:
            self._last_use[item.name] = len(nodes)
        self.parts: list[Any] = []
        waiting: list[onnx.NodeProto] = []
        for index, node in enumerate(nodes):
            if id(node) in computed:
                self._flush(waiting, index)
                waiting = []
                self.parts.append(node)
            else:
                waiting.append(node)
        self._flush(waiting, len(nodes))

    def _flush(self, nodes: list[onnx.NodeProto], end: int) -> None:
        if not nodes:
            return
        made = {name for node in nodes for name in node.output if name}
        read = {name for node in nodes for name in names_read(node)}
        outputs = sorted(name for name in made if self._last_use.get(name, -1) >= end)
        if not outputs:
            return
        inputs = sorted(read - made - set(self._constants) - {""})
        inputs = [name for name in inputs if name in self._types]
        graph = helper.make_graph(
            nodes,
            "stretch",
            [helper.make_tensor_value_info(name, self._types[name], None) for name in inputs],
            [helper.make_tensor_value_info(name, self._types[name], None) for name in outputs],
            [self._constants[name] for name in sorted(read & set(self._constants))],
        )
        part = helper.make_model(
            graph,
            opset_imports=list(self._model.opset_import),
            functions=list(self._model.functions),
            ir_version=self._model.ir_version,
        )
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Optimized already, and each tensor between stretches must keep its name.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"])
        self.parts.append((session, inputs, outputs))


def quantize_dynamically(
    values: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """U8, scale and zero point of a whole tensor, as ONNX's DynamicQuantizeLinear defines them."""
    low = np.float32(min(values.min(initial=0.0), 0.0))
    high = np.float32(max(values.max(initial=0.0), 0.0))
    scale = np.float32((high - low) / np.float32(255)) if high != low else np.float32(1)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    stored = np.clip(np.rint(values / scale) + np.float32(zero), 0, 255).astype(np.uint8)
    return stored, np.asarray([scale]), np.asarray([zero])


def _per_channel(zero: Any, count: int) -> NDArray[np.int64]:
    if zero is None:
        return np.zeros(count, np.int64)
    return np.broadcast_to(np.asarray(zero, np.int64).reshape(-1), (count,))
