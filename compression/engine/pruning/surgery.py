"""Dropping classes of channels from a graph, and the reference that the result must equal."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compression.engine.graph.names import all_names, free_name
from compression.engine.pruning.graph import PruningGraph, ShapeFix

KeepMasks = dict[str, dict[int, NDArray[np.bool_]]]


@dataclass(frozen=True)
class Pruned:
    """A smaller model, and which positions of each weight axis were kept."""

    model: onnx.ModelProto
    kept: KeepMasks


def find_masks(graph: PruningGraph, dropped: set[int]) -> KeepMasks:
    """Which positions of each weight axis stay; axes that stay whole are absent."""
    masks: KeepMasks = {}
    for (name, axis), slots in graph.weight_slots.items():
        mask = graph.table.keep_mask(slots, dropped)
        if not mask.all():
            masks.setdefault(name, {})[axis] = mask
    return masks


def kept_shapes(graph: PruningGraph, dropped: set[int]) -> dict[str, list[int]]:
    """The shape of each weight that `drop_classes` would leave, without making the model."""
    shapes = {name: list(values.shape) for name, values in graph.weights.items()}
    for name, by_axis in find_masks(graph, dropped).items():
        for axis, mask in by_axis.items():
            shapes[name][axis] = int(mask.sum())
    return shapes


def count_kept(graph: PruningGraph, dropped: set[int]) -> int:
    """The parameters that `drop_classes` would leave."""
    return sum(math.prod(shape) for shape in kept_shapes(graph, dropped).values())


def drop_classes(graph: PruningGraph, dropped: set[int], *, is_checked: bool = True) -> Pruned:
    """The model without the channels of the dropped classes.

    `is_checked` runs ONNX's checker with shape inference over it, which a trial can do without.
    """
    masks = find_masks(graph, dropped)
    model = copy.deepcopy(graph.model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, by_axis in masks.items():
        values = graph.weights[name]
        for axis, mask in by_axis.items():
            values = np.compress(mask, values, axis=axis)
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
    nodes = {node.output[0]: node for node in model.graph.node}
    for fix in graph.fixes:
        _apply_fix(graph, model, nodes[fix.node_output], fix, dropped)
    del model.graph.value_info[:]
    if is_checked:
        onnx.checker.check_model(model, full_check=True)
    return Pruned(model, masks)


def _apply_fix(
    graph: PruningGraph,
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    fix: ShapeFix,
    dropped: set[int],
) -> None:
    counts = [int(graph.table.keep_mask(slots, dropped).sum()) for slots in fix.slots]
    if fix.kind == "group":
        next(item for item in node.attribute if item.name == "group").i = counts[0]
        return
    if fix.kind == "split":
        values = np.array(counts, np.int64)
    else:
        values = graph.weights[node.input[1]].copy()
        values[fix.axis] = counts[0]
    # A new constant: the old one may be shared with nodes whose sizes stay.
    name = free_name(f"{node.output[0]}__sizes", all_names(model.graph))
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    node.input[1] = name


def mask_classes(graph: PruningGraph, dropped: set[int]) -> onnx.ModelProto:
    """The whole model with the slices that read dropped channels set to zero.

    Its output must equal that of `drop_classes`: nothing else may depend on those channels.
    """
    model = copy.deepcopy(graph.model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for (name, axis), slots in graph.weight_slots.items():
        gone = ~graph.table.keep_mask(slots, dropped)
        if "in" in graph.roles[name, axis] and gone.any():
            values = numpy_helper.to_array(tensors[name]).copy()
            np.moveaxis(values, axis, 0)[gone] = 0
            tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    return model
