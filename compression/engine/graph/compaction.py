"""Smaller files for the same graph: narrow and shared constants, short names, no defaults. Pure.

A small INT8 model is a fifth overhead: scales and biases wider than they need be, zero points that
are equal for many layers, attributes that say what would hold without them, and the names of
tensors, which exporters make of the whole path of a module and quantizers make longer. Names of
nodes, inputs and outputs stay, since reports and callers use them.
"""

from collections.abc import Iterator

import onnx
import onnx.defs

from compression.engine.graph.narrowing import narrow_constants
from compression.engine.graph.wide_scores import leave_scores_wide

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# Large weights are never equal by chance; comparing them would only cost memory.
MAX_SHARED_BYTES = 65_536
# What convolutions do without these attributes, which their schemas say in words alone.
_CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv"}
_NEUTRAL = {"pads": 0, "strides": 1, "dilations": 1}


def compact_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with constants narrow and stored once, and with short tensor names, in place.

    A graph with branches or bodies is left as it is: those read outer tensors by name.
    """
    graph = model.graph
    if any(item.HasField("g") or item.graphs for node in graph.node for item in node.attribute):
        return model
    leave_scores_wide(graph)
    _drop_defaults(model)
    narrow_constants(graph)
    _share_constants(graph)
    _shorten_names(graph)
    return model


def _drop_defaults(model: onnx.ModelProto) -> None:
    """Removes attributes that say what holds without them, and sets of operators nobody uses."""
    nodes = [*model.graph.node, *(node for item in model.functions for node in item.node)]
    used = {"", "ai.onnx", *(node.domain for node in nodes)}
    imports = [item for item in model.opset_import if item.domain in used]
    opsets = {item.domain: item.version for item in imports}
    for node in model.graph.node:
        kept = [item for item in node.attribute if not _is_default(node, item, opsets)]
        del node.attribute[:]
        node.attribute.extend(kept)
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _is_default(
    node: onnx.NodeProto, attribute: onnx.AttributeProto, opsets: dict[str, int]
) -> bool:
    value = onnx.helper.get_attribute_value(attribute)
    if node.op_type in _CONVOLUTIONS and attribute.name in _NEUTRAL:
        return all(number == _NEUTRAL[attribute.name] for number in value)
    version = opsets.get(node.domain, 1)
    if not onnx.defs.has(node.op_type, version, node.domain):
        return False
    known = onnx.defs.get_schema(node.op_type, version, node.domain).attributes
    if attribute.name not in known or not known[attribute.name].default_value.name:
        return False
    return bool(onnx.helper.get_attribute_value(known[attribute.name].default_value) == value)


def _share_constants(graph: onnx.GraphProto) -> None:
    visible = {item.name for item in [*graph.input, *graph.output]}
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        if tensor.name in visible or tensor.ByteSize() > MAX_SHARED_BYTES:
            kept.append(tensor)
            continue
        nameless = onnx.TensorProto()
        nameless.CopyFrom(tensor)
        nameless.name = ""
        content = nameless.SerializeToString(deterministic=True)
        if content in first:
            renamed[tensor.name] = first[content]
        else:
            first[content] = tensor.name
            kept.append(tensor)
    if renamed:
        tensors = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(tensors)
        _rename(graph, renamed)


def _shorten_names(graph: onnx.GraphProto) -> None:
    taken = {item.name for item in [*graph.input, *graph.output]}
    short: dict[str, str] = {}
    fresh = _fresh_names(taken)
    names = [tensor.name for tensor in graph.initializer]
    names += [name for node in graph.node for name in node.output]
    for name in names:
        if name and name not in taken and name not in short:
            short[name] = next(fresh)
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for item in graph.value_info:
        item.name = short.get(item.name, item.name)
    _rename(graph, short)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for places in (node.input, node.output):
            for index, name in enumerate(places):
                if name in names:
                    places[index] = names[name]


def _fresh_names(taken: set[str]) -> Iterator[str]:
    number = 0
    while True:
        name, rest = "", number
        while True:
            rest, digit = divmod(rest, len(_DIGITS))
            name = _DIGITS[digit] + name
            if rest == 0:
                break
        # A letter in front keeps a name from looking like a number.
        if (candidate := f"t{name}") not in taken:
            yield candidate
        number += 1
