"""Nodes in an order in which each comes after what it and its branches read. Pure."""

import heapq
from collections.abc import Iterator

import onnx


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Puts the nodes of a graph, not those inside its branches, in such an order, in place.

    Quantizers place what they add by the inputs of nodes and do not see what a branch reads from
    outside. Of the orders that are possible the one nearest to the present is taken. A graph that
    runs in a circle is left as it is.
    """
    nodes = list(graph.node)
    writer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    before = [
        {writer[name] for name in names_read(node) if writer.get(name, index) != index}
        for index, node in enumerate(nodes)
    ]
    after: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(before):
        for other in needed:
            after[other].append(index)
    missing = [len(needed) for needed in before]
    ready = [index for index, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for other in after[index]:
            missing[other] -= 1
            if missing[other] == 0:
                heapq.heappush(ready, other)
    if order == list(range(len(nodes))) or len(order) < len(nodes):
        return
    kept = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(kept)


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node reads, and those that graphs inside it read; may name inner ones too."""
    yield from (name for name in node.input if name)
    for inner in inner_graphs(node):
        yield from (item.name for item in inner.output)
        for item in inner.node:
            yield from names_read(item)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches or the body of a node."""
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs
