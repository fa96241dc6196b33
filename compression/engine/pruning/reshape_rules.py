"""Rules of operators that join, split, move or fold axes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from compression.engine.pruning.graph import Axes, NotUnderstoodError, PruningGraph, ShapeFix


def concatenate(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Along the joined axis slots follow each other; along others they are tied."""
    joined = attributes["axis"] % len(graph.shape_of(node.output[0]))
    followed = {axis for name in node.input for axis in graph.axes_of(name)}
    result: Axes = {}
    for axis in followed:
        parts = [graph.axes_of(name).get(axis) for name in node.input]
        if axis == joined:
            result[axis] = np.concatenate(
                [
                    _slots_or_pinned(graph, n, axis, p)
                    for n, p in zip(node.input, parts, strict=True)
                ]
            )
            continue
        known = [part for part in parts if part is not None]
        for part in known[1:]:
            graph.table.unite(known[0], part)
        if len(known) < len(parts):
            graph.table.pin(known[0], "concat of an axis not followed")
        result[axis] = known[0]
    graph.tensors[node.output[0]] = result


def _slots_or_pinned(graph: PruningGraph, name: str, axis: int, slots: Any) -> Any:
    if slots is not None:
        return slots
    size = graph.shape_of(name)[axis]
    if size is None:
        raise NotUnderstoodError("concat of unknown size")
    fresh = graph.table.make(size)
    graph.table.pin(fresh, "concat of a tensor not followed")
    return fresh


def split(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Equal parts without sizes keep tied positions; given sizes are written anew."""
    axes = graph.axes_of(node.input[0])
    axis = attributes.get("axis", 0) % len(graph.shape_of(node.input[0]))
    slots = axes.get(axis)
    others = {key: value for key, value in axes.items() if key != axis}
    if slots is None:
        for name in node.output:
            graph.tensors[name] = dict(others)
        return
    if len(node.input) > 1 and node.input[1]:
        sizes = [int(value) for value in graph.weight(node.input[1])]
        parts = np.split(slots, np.cumsum(sizes)[:-1])
        graph.fixes.append(ShapeFix("split", node.output[0], parts))
    elif "split" in attributes or len(slots) % len(node.output):
        raise NotUnderstoodError("split sizes as an attribute")
    else:
        parts = np.split(slots, len(node.output))
        for part in parts[1:]:
            graph.table.unite(parts[0], part)
    for name, part in zip(node.output, parts, strict=True):
        graph.tensors[name] = {**others, axis: part}


def flatten(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Each channel becomes as many features as it has positions."""
    axes = graph.axes_of(node.input[0])
    if attributes.get("axis", 1) != 1 or set(axes) - {1}:
        raise NotUnderstoodError("flatten at another axis")
    spatial = graph.shape_of(node.input[0])[2:]
    if any(size is None for size in spatial):
        raise NotUnderstoodError("flatten of unknown size")
    if 1 in axes:
        graph.tensors[node.output[0]] = {1: np.repeat(axes[1], _product(spatial))}


def reshape(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Keeps, folds or splits the one followed axis; all else is pinned."""
    axes = graph.axes_of(node.input[0])
    if not axes:
        return
    if len(axes) != 1 or attributes.get("allowzero", 0):
        raise NotUnderstoodError("reshape of several followed axes")
    ((axis, slots),) = axes.items()
    wanted = [int(value) for value in graph.weight(node.input[1])]
    before = graph.shape_of(node.input[0])
    after = _resolve(wanted, before)
    if _product(after[1:]) != _product(before[1:]):
        raise NotUnderstoodError("reshape folds the batch axis")
    outer = _product(before[1:axis])
    place, product = 1, 1
    while product < outer:
        product *= _known(after[place])
        place += 1
    if product != outer or axis < 1:
        raise NotUnderstoodError("reshape moves the followed axis")
    size, count = _known(after[place]), len(slots)
    if size == count:
        result = {place: slots}
    elif size > count and size % count == 0 and _product(before[axis + 1 :]) % (size // count) == 0:
        result = {place: np.repeat(slots, size // count)}
    elif size < count and count % size == 0 and after[place + 1] == count // size:
        # [C] becomes [g, C/g]: the same inner position of every group is kept or dropped.
        rows = slots.reshape(size, -1)
        for row in rows[1:]:
            graph.table.unite(rows[0], row)
        place += 1
        result = {place: rows[0]}
    else:
        raise NotUnderstoodError("reshape mixes channels")
    if wanted[place] == 0 and not (place == axis and size == count):
        raise NotUnderstoodError("reshape copies another axis")
    if wanted[place] not in (-1, 0):
        graph.fixes.append(ShapeFix("shape", node.output[0], [result[place]], place))
    graph.tensors[node.output[0]] = result


def _resolve(wanted: list[int], before: list[int | None]) -> list[int | None]:
    """The output shape, with the batch axis None."""
    after = [before[i] if value == 0 else value for i, value in enumerate(wanted)]
    after[0] = None
    if -1 in after:
        rest = _product([value for value in after[1:] if value != -1])
        after[after.index(-1)] = _product(before[1:]) // rest
    return after


def _product(values: list[int | None]) -> int:
    result = 1
    for value in values:
        result *= _known(value)
    return result


def _known(value: int | None) -> int:
    if value is None:
        raise NotUnderstoodError("unknown size")
    return value


def transpose(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Axes move with their slots."""
    order = list(attributes["perm"])
    axes = graph.axes_of(node.input[0])
    graph.tensors[node.output[0]] = {order.index(axis): slots for axis, slots in axes.items()}


def _given_axes(graph: PruningGraph, node: onnx.NodeProto, attributes: Any, rank: int) -> Any:
    given = attributes.get("axes")
    if given is None and len(node.input) > 1 and node.input[1]:
        given = graph.weight(node.input[1])
    return None if given is None else [int(axis) % rank for axis in given]


def reduce(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Reducing over channels pins them; other axes move up."""
    rank = len(graph.shape_of(node.input[0]))
    gone = _given_axes(graph, node, attributes, rank)
    # No axes mean all of them; with `noop_with_empty_axes` none, where pinning is merely cautious.
    gone = gone or list(range(rank))
    is_kept = attributes.get("keepdims", 1)
    result: Axes = {}
    for axis, slots in graph.axes_of(node.input[0]).items():
        if axis in gone:
            graph.table.pin(slots, "reduced over")
        else:
            result[axis if is_kept else axis - sum(other < axis for other in gone)] = slots
    graph.tensors[node.output[0]] = result


def squeeze(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Axes of size 1 go away."""
    gone = _given_axes(graph, node, attributes, len(graph.shape_of(node.input[0])))
    if gone is None:
        raise NotUnderstoodError("squeeze without axes")
    axes = graph.axes_of(node.input[0])
    if set(gone) & set(axes):
        raise NotUnderstoodError("squeeze of a followed axis")
    graph.tensors[node.output[0]] = {
        axis - sum(other < axis for other in gone): slots for axis, slots in axes.items()
    }


def unsqueeze(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """New axes of size 1 move the others down."""
    rank = len(graph.shape_of(node.output[0]))
    new = _given_axes(graph, node, attributes, rank)
    left = [axis for axis in range(rank) if axis not in new]
    axes = graph.axes_of(node.input[0])
    graph.tensors[node.output[0]] = {left[axis]: slots for axis, slots in axes.items()}


def pad(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Padding of other axes than the followed ones."""
    amounts = attributes.get("pads") or [int(v) for v in graph.weight(node.input[1])]
    rank = len(graph.shape_of(node.input[0]))
    axes = graph.axes_of(node.input[0])
    if (len(node.input) > 3 and node.input[3]) or any(
        amounts[axis] or amounts[axis + rank] for axis in axes
    ):
        raise NotUnderstoodError("padding of channels")
    graph.tensors[node.output[0]] = dict(axes)


def resize(graph: PruningGraph, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Resizing by constant factors that leave the followed axes alone."""
    axes = graph.axes_of(node.input[0])
    if "axes" in attributes or attributes.get("coordinate_transformation_mode") in _CROPPING:
        raise NotUnderstoodError("resize of named axes")
    if len(node.input) > 3 and node.input[3]:
        raise NotUnderstoodError("resize to absolute sizes")
    # Operator set 10 and Upsample have the factors second, later ones third.
    place = 1 if len(node.input) == 2 else 2
    factors = attributes.get("scales")
    if factors is None:
        factors = graph.weight(node.input[place])
    if any(float(factors[axis]) != 1.0 for axis in axes):
        raise NotUnderstoodError("resize of channels")
    graph.tensors[node.output[0]] = dict(axes)


_CROPPING = (b"tf_crop_and_resize",)
_REDUCTIONS = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"]
RESHAPE_RULES: dict[str, Callable[[PruningGraph, onnx.NodeProto, dict[str, Any]], None]] = {
    "Concat": concatenate,
    "Split": split,
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Pad": pad,
    "Resize": resize,
    "Upsample": resize,
    **dict.fromkeys(_REDUCTIONS, reduce),
}
