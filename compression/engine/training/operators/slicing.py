"""Parts of arrays: taken out, put together, surrounded."""

import itertools
from typing import Any

import numpy as np

from compression.engine.training.engines.arrays import Array, Arrays
from compression.engine.training.operators.node import Builder, Compute, Node, to_integers

# By the names that ONNX gives them.
_PAD_MODES: dict[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def build_concat(node: Node) -> Compute:
    axis = node.get("axis")
    return lambda arrays, *inputs: arrays.xp.concat(inputs, axis=axis)


def build_split(node: Node) -> Compute:
    axis, fixed, count = node.get("axis", 0), node.get("split"), node.outputs

    def split(arrays: Arrays, x: Array, given: Array = None) -> tuple[Array, ...]:
        sizes = fixed if given is None else to_integers(given)
        length = x.shape[axis]
        if not sizes:
            step = -(-length // count)
            sizes = [min(step, length - start) for start in range(0, length, step)]
        ends = list(itertools.accumulate(sizes))
        pairs = zip([0, *ends], ends, strict=False)
        return tuple(_cut_axis(arrays, x, start, end, axis, 1) for start, end in pairs)

    return split


def build_slice(node: Node) -> Compute:
    fixed = {name: node.get(name) for name in ("starts", "ends", "axes")}

    def cut(arrays: Arrays, x: Array, *given: Array) -> Array:
        if given:
            lists = [None if item is None else to_integers(item) for item in given]
            starts, ends, axes, steps = [*lists, None, None][:4]
        else:
            starts, ends, axes, steps = fixed["starts"], fixed["ends"], fixed["axes"], None
        assert starts is not None and ends is not None
        axes = axes or list(range(len(starts)))
        steps = steps or [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            x = _cut_axis(arrays, x, start, end, axis, step)
        return x

    return cut


def _cut_axis(arrays: Arrays, x: Array, start: int, end: int, axis: int, step: int) -> Array:
    axis %= x.ndim
    positions = range(x.shape[axis])[slice(start, _open_end(end, step), step)]
    if step > 0:
        where = [slice(None)] * x.ndim
        where[axis] = slice(positions.start, positions.stop, step)
        return x[tuple(where)]
    return arrays.take(x, np.array(positions, np.int64), axis)


def _open_end(end: int, step: int) -> int | None:
    """Backwards, an end far below zero stands for "to the very first"."""
    return None if step < 0 and end < -(2**31) + 1 else end


def build_gather(node: Node) -> Compute:
    axis = node.get("axis", 0)

    def gather(arrays: Arrays, x: Array, indices: Array) -> Array:
        first = axis % x.ndim
        # Negative ones count from the end.
        flat = indices.reshape((-1,)) % x.shape[first]
        taken = arrays.take(x, flat, first)
        return taken.reshape((*x.shape[:first], *indices.shape, *x.shape[first + 1 :]))

    return gather


def build_pad(node: Node) -> Compute:
    fixed, mode = node.get("pads"), node.get("mode", "constant")
    fixed_value = node.get("value", 0.0)

    def pad(
        arrays: Arrays, x: Array, given: Array = None, value: Array = None, axes: Array = None
    ) -> Array:
        amounts = list(fixed) if given is None else to_integers(given)
        half = len(amounts) // 2
        before, after = [0] * x.ndim, [0] * x.ndim
        for index, axis in enumerate(range(x.ndim) if axes is None else to_integers(axes)):
            before[axis], after[axis] = amounts[index], amounts[index + half]
        if mode == "constant":
            # The value may come as an array of one number.
            filling = fixed_value if value is None else value.reshape(())
            return arrays.pad(x, before, after, filling)
        for axis, pair in enumerate(zip(before, after, strict=True)):
            if any(pair):
                places = np.pad(np.arange(x.shape[axis]), pair, mode=_PAD_MODES[mode])
                x = arrays.take(x, places, axis)
        return x

    return pad


SLICING: dict[str, Builder] = {
    "Concat": build_concat,
    "Gather": build_gather,
    "Pad": build_pad,
    "Slice": build_slice,
    "Split": build_split,
}
