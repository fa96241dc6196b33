"""Depthwise convolution for JAX, with gradients of its own.

XLA computes depthwise convolutions on a CPU in plain loops, and their gradients 20 to 50 times as
slowly as other libraries. Here both are sums of shifted products, which XLA fuses into few loops.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import Array, lax

Steps = tuple[int, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_depthwise(x: Array, weight: Array, strides: Steps, dilations: Steps) -> Array:
    """Each channel of a padded [N, C, ...] by its own kernel, [C, 1, ...]."""
    return _sum_shifted(x, weight, strides, dilations)


def _forward(
    x: Array, weight: Array, strides: Steps, dilations: Steps
) -> tuple[Array, tuple[Array, Array]]:
    return _sum_shifted(x, weight, strides, dilations), (x, weight)


def _backward(
    strides: Steps, dilations: Steps, kept: tuple[Array, Array], slope: Array
) -> tuple[Array, Array]:
    x, weight = kept
    kernel, rank = weight.shape[2:], len(strides)
    over = (0, *range(2, 2 + rank))
    sums = [
        (part * slope).sum(over)
        for _, part in _shift(x, kernel, slope.shape[2:], strides, dilations)
    ]
    weight_slope = jnp.stack(sums, 1).reshape(weight.shape)
    # The slopes, as far apart as the steps were, meet the kernel turned round.
    pads = [(0, 0, 0), (0, 0, 0)]
    sizes = zip(x.shape[2:], kernel, slope.shape[2:], strides, dilations, strict=True)
    for length, width, count, step, dilation in sizes:
        reach = (width - 1) * dilation
        pads.append((reach, length - ((count - 1) * step + 1), step - 1))
    spread = lax.pad(slope, jnp.zeros((), slope.dtype), pads)
    turned = jnp.flip(weight, tuple(range(2, 2 + rank)))
    return _sum_shifted(spread, turned, (1,) * rank, dilations), weight_slope


convolve_depthwise.defvjp(_forward, _backward)


def _sum_shifted(x: Array, weight: Array, strides: Steps, dilations: Steps) -> Array:
    kernel = weight.shape[2:]
    sizes = [
        (length - (width - 1) * dilation - 1) // step + 1
        for length, width, step, dilation in zip(
            x.shape[2:], kernel, strides, dilations, strict=True
        )
    ]
    shape = (1, -1, *[1] * len(kernel))
    terms = [
        part * weight[(slice(None), 0, *place)].reshape(shape)
        for place, part in _shift(x, kernel, tuple(sizes), strides, dilations)
    ]
    return functools.reduce(jnp.add, terms)


def _shift(
    x: Array, kernel: Steps, sizes: Steps, strides: Steps, dilations: Steps
) -> Iterator[tuple[Steps, Array]]:
    """For each place of the kernel, what of the input it meets."""
    for place in itertools.product(*map(range, kernel)):
        starts = [n * dilation for n, dilation in zip(place, dilations, strict=True)]
        ends = [
            start + (size - 1) * step + 1
            for start, size, step in zip(starts, sizes, strides, strict=True)
        ]
        part = lax.slice(x, (0, 0, *starts), (*x.shape[:2], *ends), (1, 1, *strides))
        yield place, part
