"""Biases of products in the one shape that quantizers take: a row. Pure."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compression.engine.graph.names import all_names, free_name
from compression.engine.graph.structure import attributes_of


def flatten_biases(graph: onnx.GraphProto) -> None:
    """Writes the constant bias of each Gemm as one value per column, in place.

    Exporters write (1, N), (1, 1) or a scalar, which say the same. A bias with a value per row
    is no bias to a quantizer: an Add behind the product takes it. The factors `alpha` and
    `beta` become part of weight and bias, since quantizers take one or the other for 1.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    taken = all_names(graph)
    nodes, replaced = [], set()
    for node in graph.node:
        nodes.append(node)
        weight = weights.get(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or len(weight.dims) != 2:
            continue
        alpha = _take_factor(node, "alpha")
        if alpha != 1.0:
            replaced.add(weight.name)
            scaled = _scale(numpy_helper.to_array(weight), alpha)
            node.input[1] = _add_constant(graph, scaled, f"{weight.name}_scaled", taken)
        bias = weights.get(node.input[2]) if len(node.input) > 2 else None
        if bias is None:
            continue
        width = weight.dims[0 if attributes_of(node).get("transB", 0) else 1]
        beta = _take_factor(node, "beta")
        if list(bias.dims) == [width] and beta == 1.0:
            continue
        replaced.add(bias.name)
        values = _scale(numpy_helper.to_array(bias), beta)
        if values.size in (1, width) and (values.ndim < 2 or values.shape[0] == 1):
            row = np.broadcast_to(values.reshape(-1), (width,)).copy()
            node.input[2] = _add_constant(graph, row, f"{bias.name}_row", taken)
            continue
        added = _add_constant(graph, values, f"{bias.name}_added", taken)
        product = free_name(f"{node.output[0]}_product", taken)
        taken.add(product)
        name = free_name(f"{node.name or product}_bias", {item.name for item in graph.node})
        nodes.append(helper.make_node("Add", [product, added], [node.output[0]], name))
        node.output[0] = product
        del node.input[2:]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    for name in sorted(replaced):
        tensor = onnx.TensorProto.FromString(weights[name].SerializeToString())
        graph.initializer.remove(weights[name])
        if name in all_names(graph):
            # Something else reads it too, maybe in a branch.
            graph.initializer.append(tensor)


def _take_factor(node: onnx.NodeProto, name: str) -> float:
    """The factor, which the node then has no more."""
    factor = float(attributes_of(node).get(name, 1.0))
    for item in [item for item in node.attribute if item.name == name]:
        node.attribute.remove(item)
    return factor


def _scale(values: NDArray, factor: float) -> NDArray:
    return (values * factor).astype(values.dtype)


def _add_constant(graph: onnx.GraphProto, values: NDArray, wish: str, taken: set[str]) -> str:
    name = free_name(wish, taken)
    taken.add(name)
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name
