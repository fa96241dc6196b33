"""Nodes that nothing reads. Pure."""

import onnx

from compression.engine.graph.order import names_read


def drop_dead_nodes(graph: onnx.GraphProto) -> int:
    """Removes nodes from which no output follows, in place; returns how many.

    A quantizer that joins a Relu with the product before it does so although such a node reads the
    product too, and then every answer is wrong.
    """
    needed = {item.name for item in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & {name for name in node.output if name}:
            kept.append(node)
            needed.update(names_read(node))
    dropped = len(graph.node) - len(kept)
    if dropped:
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        del graph.node[:]
        graph.node.extend(nodes)
    return dropped
