"""Constants beside INT8 weights in half the bytes. Pure.

A convolution of few weights per channel carries nine bytes with each: an FP32 scale, an INT32
bias and a zero point. Biases that fit 16 bits are stored in 16, which changes nothing. Scales are
rounded to FP16, by at most 2^-11 of themselves; the weights they belong to were rounded by up to
2^-8 of the largest. Zero points that are all equal become a single one. A Cast widens what the
operators want wide: ONNX Runtime computes it once, when it loads the model, so that the graph it
runs is the one without. With optimization turned off it costs a microsecond or two per layer.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Below this, the Cast weighs more than it saves.
MIN_ELEMENTS = 24
# Smaller numbers of FP16 are rounded by more than 2^-11 of themselves.
_HALF_MIN, _HALF_MAX = 2.0**-14, 65504.0
_SHORT, _LONG = np.iinfo(np.int16), np.iinfo(np.int32)


@dataclass(frozen=True)
class _Places:
    """At which inputs a quantized operator has its weights and what goes with them."""

    weight: int
    scale: int
    zero_point: int | None = None
    bias: int | None = None


_PLACES = {
    "QLinearConv": _Places(3, 4, 5, 8),
    "QGemm": _Places(3, 4, None, 6),
    "QLinearMatMul": _Places(3, 4),
    "DequantizeLinear": _Places(0, 1),
}


def narrow_constants(graph: onnx.GraphProto) -> None:
    """Stores scales, biases and zero points beside INT8 weights in fewer bytes, in place.

    Graphs of QuantizeLinear and DequantizeLinear in pairs are left as they are: they are read by
    compilers, which look for constants as such. A constant that several operators read is too.
    """
    if _has_pairs(graph):
        return
    narrower = _Narrower(graph)
    for node in graph.node:
        if node.op_type in _PLACES:
            narrower.narrow(node, _PLACES[node.op_type])
    narrower.finish()


def _has_pairs(graph: onnx.GraphProto) -> bool:
    quantized = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return any(
        node.op_type == "DequantizeLinear" and node.input[0] in quantized for node in graph.node
    )


class _Narrower:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.uses: dict[str, int] = {item.name: 1 for item in graph.output}
        for node in graph.node:
            for name in node.input:
                self.uses[name] = self.uses.get(name, 0) + 1
        self.casts: list[onnx.NodeProto] = []

    def narrow(self, node: onnx.NodeProto, places: _Places) -> None:
        """What goes with the weights of one node, where these are constant and of 8 bits."""
        weight = self.tensors.get(node.input[places.weight])
        if weight is None or weight.data_type not in (TensorProto.INT8, TensorProto.UINT8):
            return
        bias = self._own(node, places.bias, TensorProto.INT32)
        scale = self._own(node, places.scale, TensorProto.FLOAT)
        # The unit of a bias is the scale of the weights times that of the input.
        is_bound = places.bias is not None and len(node.input) > places.bias and bias is None
        if scale is not None and not is_bound and _fits_half(scale):
            half = scale.astype(np.float16)
            self._store(node, places.scale, half)
            if bias is not None:
                bias = np.rint(bias * (scale.astype(np.float64) / half.astype(np.float64)))
                bias = np.clip(bias, _LONG.min, _LONG.max).astype(np.int32)
                self._replace(node.input[places.bias], bias)
        if bias is not None and _SHORT.min <= bias.min() and bias.max() <= _SHORT.max:
            self._store(node, places.bias, bias.astype(np.int16))
        zero = self._own(node, places.zero_point, weight.data_type, least=2)
        if zero is not None and (zero == zero[0]).all():
            self._replace(node.input[places.zero_point], zero[0])

    def finish(self) -> None:
        """Puts the casts before the nodes that read them."""
        nodes = [*self.casts, *self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _own(
        self, node: onnx.NodeProto, place: int | None, data_type: int, least: int = MIN_ELEMENTS
    ) -> NDArray | None:
        """The constant at an input, if it is a vector worth it that nothing else reads."""
        name = node.input[place] if place is not None and place < len(node.input) else ""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.data_type != data_type or self.uses[name] > 1:
            return None
        is_vector = len(tensor.dims) == 1 and tensor.dims[0] >= least
        return numpy_helper.to_array(tensor) if is_vector else None

    def _replace(self, name: str, values: NDArray) -> None:
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(values), name))

    def _store(self, node: onnx.NodeProto, place: int | None, narrow: NDArray) -> None:
        name = node.input[place or 0]
        wide = self.tensors[name].data_type
        stored = f"{name}_narrow"
        while stored in self.uses:
            stored += "_"
        self.tensors[name].CopyFrom(numpy_helper.from_array(narrow, stored))
        self.casts.append(helper.make_node("Cast", [stored], [name], to=wide))


def _fits_half(scale: NDArray) -> bool:
    return bool(scale.min() >= _HALF_MIN and scale.max() <= _HALF_MAX)
