"""The nodes of a graph that a recipe's `exclude` means, whatever became of them on the way."""

from pathlib import Path

import onnx

from compression.engine.graph.names import name_nodes
from compression.engine.passes.context import PassContext
from compression.exceptions import ModelUnsupportedError

NAMED = "named in the recipe"


def list_excluded(context: PassContext) -> dict[str, str]:
    """The nodes that a pass leaves as they are since its recipe excludes them, with the reason.

    A node that `prepare` joined with another one is that other one. A node whose result was
    computed once for all is no more, and what reads the result stands for it.

    Raises:
        ModelUnsupportedError: a name that neither this graph nor the source has.
    """
    wanted = context.parameters.get("exclude") or []
    if not wanted:
        return {}
    current, original = _read_graph(context.source), _read_graph(context.original)
    present = {node.name for node in current.node}
    known = {node.name: node for node in original.node}
    found: list[str] = []
    for name in wanted:
        if name in present:
            found.append(name)
        elif name in known:
            found += _successors(known[name], original, current)
        else:
            raise ModelUnsupportedError(
                f"exclude names {name!r}; no node of the model has that name."
            )
    return dict.fromkeys(found, NAMED)


def _read_graph(path: Path) -> onnx.GraphProto:
    model = onnx.load(str(path), load_external_data=False)
    name_nodes(model)
    return model.graph


def _successors(
    node: onnx.NodeProto, original: onnx.GraphProto, current: onnx.GraphProto
) -> list[str]:
    """Who writes in the current graph what the node, or the nearest behind it, wrote at first."""
    writers = {name: item.name for item in current.node for name in item.output if name}
    tensors, seen = list(node.output), set(node.output)
    found: list[str] = []
    while tensors:
        tensor = tensors.pop()
        if tensor in writers:
            found.append(writers[tensor])
            continue
        behind = [name for item in original.node if tensor in item.input for name in item.output]
        tensors += [name for name in behind if name not in seen]
        seen.update(behind)
    return found
