"""INT8 products as kernels with sums of 16 or of 32 bits compute them. Pure."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.measure.kernels.products import exceeding_pairs, split_pairs

# Rows of a product are computed in blocks: unfolded activations take many times their room.
MAX_BLOCK_VALUES = 2**23
_LOWEST, _HIGHEST = -(2**15), 2**15 - 1


def multiply(
    rows: NDArray[np.uint8], matrix: NDArray[np.int8], *, is_saturating: bool
) -> NDArray[np.int64]:
    """The product [N, M] of rows [N, K] and a matrix [K, M].

    Args:
        is_saturating: whether each sum of two neighbouring products is cut to 16 bits before it is
            added to the others, as VPMADDUBSW does.
    """
    block = max(MAX_BLOCK_VALUES // max(rows.shape[1], 1), 1)
    wide = matrix.astype(np.float64)
    # Exact: a sum of 2 ** 36 products of 8 bits is still a whole number of 53 bits.
    exact = [rows[at : at + block] @ wide for at in range(0, len(rows), block)]
    total = np.concatenate(exact).astype(np.int64)
    if is_saturating:
        total += _count_losses(rows, matrix)
    return total


def _count_losses(rows: NDArray[np.uint8], matrix: NDArray[np.int8]) -> NDArray[np.int64]:
    """What saturation adds to the exact product; only pairs that can leave 16 bits are read."""
    exceeding = exceeding_pairs(matrix)
    upper, lower = split_pairs(matrix.astype(np.int32))
    losses = np.zeros((matrix.shape[1], len(rows)), np.int64)
    block = max(MAX_BLOCK_VALUES // max(len(matrix), 1), 1)
    for at in range(0, len(rows), block):
        # By places of the sum, so that what a pair reads lies in one piece.
        first, second = split_pairs(rows[at : at + block].T.astype(np.int32))
        for channel in np.flatnonzero(exceeding.any(axis=0)):
            pairs = np.flatnonzero(exceeding[:, channel])
            sums = first[pairs] * upper[pairs, channel, None]
            sums += second[pairs] * lower[pairs, channel, None]
            sums -= np.clip(sums, _LOWEST, _HIGHEST)
            losses[channel, at : at + block] = -sums.sum(axis=0, dtype=np.int64)
    return losses.T


def shift(
    total: NDArray[np.int64],
    rows: NDArray[np.uint8],
    matrix: NDArray[np.int8],
    row_zero: int,
    matrix_zero: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The product of what is meant, from that of what is stored: zero points taken off after."""
    weights = matrix.astype(np.int64)
    values = rows.sum(axis=1, dtype=np.int64)[:, None]
    return (
        total
        - row_zero * weights.sum(axis=0)
        - values * matrix_zero
        + rows.shape[1] * row_zero * matrix_zero
    )


def requantize(
    total: NDArray[np.int64], scale: NDArray[np.float32], zero: int, kind: np.dtype[Any]
) -> NDArray[Any]:
    """8 bits of a sum: scaled in FP32, rounded half to even, moved to the zero point and cut."""
    limits = np.iinfo(kind)
    scaled = np.rint(total.astype(np.float32) * scale)
    return np.clip(scaled + np.float32(zero), limits.min, limits.max).astype(kind)


def unfold(
    values: NDArray[Any],
    kernel: tuple[int, ...],
    attributes: dict[str, Any],
    fill: int,
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """What each place of a filter sees: [N * places, taps, C], and the shape of the places.

    Args:
        values: [N, C, ...].
        kernel: the filter's extent along each axis after the channels.
        attributes: of the convolution.
        fill: what lies beyond the edges, the activation's zero point.
    """
    axes = len(kernel)
    strides = attributes.get("strides") or [1] * axes
    dilations = attributes.get("dilations") or [1] * axes
    extents = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    before, after = _list_pads(values.shape[2:], extents, strides, attributes)
    pads = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    padded = np.pad(values, pads, constant_values=fill)
    places = tuple(
        (size - extent) // stride + 1
        for size, extent, stride in zip(padded.shape[2:], extents, strides, strict=True)
    )
    taps = []
    for offsets in itertools.product(*(range(size) for size in kernel)):
        index = tuple(
            slice(at * dilation, at * dilation + stride * (count - 1) + 1, stride)
            for at, dilation, stride, count in zip(offsets, dilations, strides, places, strict=True)
        )
        seen = np.moveaxis(padded[(slice(None), slice(None), *index)], 1, -1)
        taps.append(seen.reshape(len(values) * math.prod(places), -1))
    return np.stack(taps, axis=1), places


def _list_pads(
    sizes: tuple[int, ...], extents: list[int], strides: list[int], attributes: dict[str, Any]
) -> tuple[list[int], list[int]]:
    way = attributes.get("auto_pad", b"NOTSET")
    way = way.decode() if isinstance(way, bytes) else way
    axes = len(sizes)
    if way == "VALID":
        return [0] * axes, [0] * axes
    if way in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
            for size, extent, stride in zip(sizes, extents, strides, strict=True)
        ]
        less, more = [value // 2 for value in total], [value - value // 2 for value in total]
        return (less, more) if way == "SAME_UPPER" else (more, less)
    pads = list(attributes.get("pads") or [0] * 2 * axes)
    return pads[:axes], pads[axes:]
