"""Weights that an exporter wrote into Constant nodes. Pure."""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from compression.engine.graph.order import inner_graphs

# What passes count as a weight; shapes and axes stay where they are.
MIN_ELEMENTS = 64


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The numbers of a Constant node; None for any other node, for text and for sparse tensors."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for item in node.attribute:
        if item.name == "value":
            return item.t
        if item.name == "value_floats":
            return numpy_helper.from_array(np.array(item.floats, np.float32))
        if item.name == "value_ints":
            return numpy_helper.from_array(np.array(item.ints, np.int64))
    return None


def list_weights(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers and tensors of Constant nodes with the name they are read by.

    Those of branches and bodies come after those outside.
    """
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is not None:
            yield node.output[0], tensor
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from list_weights(inner)


def lift_constants(graph: onnx.GraphProto) -> int:
    """Makes initializers of the weights in Constant nodes, in place; returns how many.

    Passes look for weights among the initializers. One that is itself an output stays a node.
    """
    outputs = {item.name for item in graph.output}
    kept, lifted = [], 0
    for node in graph.node:
        tensor = constant_tensor(node)
        is_weight = tensor is not None and math.prod(tensor.dims) >= MIN_ELEMENTS
        if tensor is None or not is_weight or node.output[0] in outputs:
            kept.append(node)
            continue
        weight = graph.initializer.add()
        weight.CopyFrom(tensor)
        weight.name = node.output[0]
        lifted += 1
    if lifted:
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(nodes)
    return lifted + sum(lift_constants(g) for node in graph.node for g in inner_graphs(node))
