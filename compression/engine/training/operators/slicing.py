"""Parts of tensors: taken out, put together, surrounded."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compression.engine.training.operators.linear import pad_axes
from compression.engine.training.operators.node import Builder, Compute, Node, to_integers

_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def build_concat(node: Node) -> Compute:
    axis = node.get("axis")
    return lambda *inputs: torch.cat(inputs, axis)


def build_split(node: Node) -> Compute:
    axis, fixed, count = node.get("axis", 0), node.get("split"), node.outputs

    def split(x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes: Any = fixed if given is None else to_integers(given)
        return torch.split(x, sizes or -(-x.shape[axis] // count), axis)

    return split


def build_slice(node: Node) -> Compute:
    fixed = {name: node.get(name) for name in ("starts", "ends", "axes")}

    def cut(x: Tensor, *given: Tensor | None) -> Tensor:
        if given:
            lists = [None if item is None else to_integers(item) for item in given]
            starts, ends, axes, steps = [*lists, None, None][:4]
        else:
            starts, ends, axes, steps = fixed["starts"], fixed["ends"], fixed["axes"], None
        assert starts is not None and ends is not None
        axes = axes or list(range(len(starts)))
        steps = steps or [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            x = _cut_axis(x, start, end, axis, step)
        return x

    return cut


def _cut_axis(x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    positions = range(x.shape[axis])[slice(start, _open_end(end, step), step)]
    if step > 0:
        where = [slice(None)] * x.ndim
        where[axis] = slice(positions.start, positions.stop, step)
        return x[tuple(where)]
    return x.index_select(axis, torch.tensor(list(positions), dtype=torch.int64))


def _open_end(end: int, step: int) -> int | None:
    """Backwards, an end far below zero stands for "to the very first"."""
    return None if step < 0 and end < -(2**31) + 1 else end


def build_gather(node: Node) -> Compute:
    axis = node.get("axis", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        length = x.shape[axis]
        flat = torch.remainder(indices.reshape(-1).to(torch.int64), length)
        taken = x.index_select(axis, flat)
        first = axis % x.ndim
        return taken.reshape([*x.shape[:first], *indices.shape, *x.shape[first + 1 :]])

    return gather


def build_pad(node: Node) -> Compute:
    fixed, mode = node.get("pads"), node.get("mode", "constant")
    fixed_value = node.get("value", 0.0)

    def pad(
        x: Tensor,
        given: Tensor | None = None,
        value: Tensor | None = None,
        axes: Tensor | None = None,
    ) -> Tensor:
        amounts = list(fixed) if given is None else to_integers(given)
        half = len(amounts) // 2
        before, after = [0] * x.ndim, [0] * x.ndim
        for index, axis in enumerate(range(x.ndim) if axes is None else to_integers(axes)):
            before[axis], after[axis] = amounts[index], amounts[index + half]
        if mode == "constant":
            return pad_axes(x, before, after, fixed_value if value is None else value.item())
        # The other modes of F.pad want the axes behind batch and channel alone.
        if any(before[:2]) or any(after[:2]):
            raise node.refuse(f"mode {mode} along batch or channel")
        pairs = zip(reversed(before[2:]), reversed(after[2:]), strict=True)
        return F.pad(x, [n for pair in pairs for n in pair], mode=_MODES[mode])

    return pad


SLICING: dict[str, Builder] = {
    "Concat": build_concat,
    "Gather": build_gather,
    "Pad": build_pad,
    "Slice": build_slice,
    "Split": build_split,
}
