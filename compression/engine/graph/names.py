"""Names that no pass can meet by adding to another. Pure.

Quantizers make the names of what they add from the names that are there: `w` brings `w_scale`, `b`
a `b0`. Where the model has a tensor of that very name, the two become one: the file is refused, or
loads and answers wrongly. Here every inner tensor gets a name that is as long as all others, so
that none is another one with something behind it. Inputs and outputs keep theirs, since callers
use them.
"""

from collections.abc import Iterator

import onnx
from onnx import helper

from compression.engine.graph.order import inner_graphs


def reserve_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inner tensors, those of branches and bodies too, named anew, in place.

    Renaming the same name everywhere to the same new one keeps what each name refers to, whatever
    branch it stands in. Nodes keep their names but for repeated ones, which quantizers take for
    one node.
    """
    graph = model.graph
    name_nodes(model)
    _set_apart(graph)
    public = {item.name for item in [*graph.input, *graph.output]}
    graphs = list(_graphs_of(graph))
    names = sorted({name for item in graphs for name in _tensor_names(item)} - public)
    taken = public | {node.name for item in graphs for node in item.node}
    prefix = _free_prefix(taken)
    width = len(str(len(names)))
    renamed = {name: f"{prefix}{index:0{width}}" for index, name in enumerate(names)}
    for item in graphs:
        _rename(item, renamed)
    return model


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node a name of its own, which excluding and ranking rely on."""
    present = {node.name for node in model.graph.node}
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = free_name(f"{node.op_type}_{index}", present)
            present.add(node.name)
        taken.add(node.name)


def free_name(wish: str, taken: set[str]) -> str:
    """The wished name, with underscores behind it until nothing else is called so."""
    while wish in taken:
        wish += "_"
    return wish


def all_names(graph: onnx.GraphProto) -> set[str]:
    """The names of all tensors of a graph and of the graphs inside it."""
    return {name for item in _graphs_of(graph) for name in _tensor_names(item)}


def rename_in_node(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Gives tensors that a node reads or writes new names, inside its branches and bodies too."""
    _rename_places(node, names)
    for inner in inner_graphs(node):
        rename_in_graph(inner, names)


def rename_in_graph(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """The same in a branch or body, and in those inside it."""
    for item in _graphs_of(graph):
        _rename(item, names)


def _set_apart(graph: onnx.GraphProto) -> None:
    """Puts an Identity behind each input, and before each output, that another name begins with.

    Two names that callers use can be `x` and `x_scale`; nothing is then derived from `x`.
    """
    public = [item.name for item in [*graph.input, *graph.output]]
    taken = all_names(graph)
    weights = {tensor.name for tensor in graph.initializer}
    for item in list(graph.input):
        if item.name not in weights and _begins_another(item.name, public):
            inner = _replace_inside(graph, item.name, taken)
            graph.node.insert(0, helper.make_node("Identity", [item.name], [inner], inner))
    produced = {name for node in graph.node for name in node.output}
    for item in graph.output:
        if item.name in produced and _begins_another(item.name, public):
            inner = _replace_inside(graph, item.name, taken)
            graph.node.append(helper.make_node("Identity", [inner], [item.name], inner))


def _begins_another(name: str, others: list[str]) -> bool:
    return any(other != name and other.startswith(name) for other in others)


def _replace_inside(graph: onnx.GraphProto, name: str, taken: set[str]) -> str:
    inner = free_name(f"{name}_apart", taken)
    taken.add(inner)
    for item in _graphs_of(graph):
        _rename(item, {name: inner}, is_outermost=item is graph)
    return inner


def _graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _graphs_of(inner)


def _tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    for item in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        yield item.name
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (name for node in graph.node for name in [*node.input, *node.output] if name != "")


def _free_prefix(taken: set[str]) -> str:
    # Nothing that a pass adds to a name begins with a colon, so `t` itself may be taken.
    number, prefix = 0, "t:"
    while any(name.startswith(prefix) for name in taken):
        number += 1
        prefix = f"t{number}:"
    return prefix


def _rename(graph: onnx.GraphProto, names: dict[str, str], *, is_outermost: bool = False) -> None:
    for node in graph.node:
        _rename_places(node, names)
    items = [*graph.value_info, *graph.initializer]
    if not is_outermost:
        items += [*graph.input, *graph.output]
    for item in items:
        item.name = names.get(item.name, item.name)
    for tensor in graph.sparse_initializer:
        tensor.values.name = names.get(tensor.values.name, tensor.values.name)
    for note in graph.quantization_annotation:
        note.tensor_name = names.get(note.tensor_name, note.tensor_name)


def _rename_places(node: onnx.NodeProto, names: dict[str, str]) -> None:
    for places in (node.input, node.output):
        for index, name in enumerate(places):
            places[index] = names.get(name, name)
