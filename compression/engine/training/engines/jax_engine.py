"""JAX as the engine: the whole step of training is compiled for the processor."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from compression.engine.training.engines.arrays import Array, Engine
from compression.engine.training.engines.jax_depthwise import convolve_depthwise

# The older emitters compile a network of 100 nodes in half the time and half the memory, to code
# that is as fast.
_COMPILER: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False}
# Beyond so many groups, one call for each takes too long to compile.
_MAX_SEPARATE_GROUPS = 32


class JaxEngine(Engine):
    """JAX on the CPU.

    XLA takes as many threads as the process may use processors, which the child process limits
    before JAX is imported.
    """

    name = "jax"
    title = "JAX"
    xp = jnp
    nn = jax.nn

    def __init__(self) -> None:
        jax.config.update("jax_platforms", "cpu")
        # ONNX's integers have 64 bits; floats stay as wide as the graph has them.
        jax.config.update("jax_enable_x64", True)
        # Some of its own modules warn about NumPy's newest names.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="jax")

    def configure(self, threads: int) -> None:
        """Nothing: the processors were limited before, and XLA's kernels are deterministic."""

    def to_array(self, value: NDArray) -> jax.Array:
        return jnp.array(value)

    def to_numpy(self, value: jax.Array) -> NDArray:
        return np.array(value)

    def erf(self, x: Array) -> Array:
        return lax.erf(x)

    def convolve(
        self,
        x: Array,
        weight: Array,
        strides: Sequence[int],
        before: list[int],
        after: list[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Array:
        channels = x.shape[1]
        if groups == channels == weight.shape[0] and groups > 1:
            padded = self.pad(x, [0, 0, *before], [0, 0, *after])
            return convolve_depthwise(padded, weight, tuple(strides), tuple(dilations))
        pads = list(zip(before, after, strict=True))
        if 1 < groups <= _MAX_SEPARATE_GROUPS:
            # XLA computes grouped convolutions, and their gradients above all, in plain loops.
            pairs = zip(jnp.split(x, groups, 1), jnp.split(weight, groups, 0), strict=True)
            parts = [_convolve(part, w, strides, pads, dilations) for part, w in pairs]
            return jnp.concatenate(parts, 1)
        return _convolve(x, weight, strides, pads, dilations, groups)

    def convolve_transposed(
        self,
        x: Array,
        weight: Array,
        strides: Sequence[int],
        dilations: Sequence[int],
        extra: Sequence[int],
        groups: int,
    ) -> Array:
        rank = len(strides)
        turned = jnp.flip(weight, tuple(range(2, 2 + rank)))
        # [C, M / groups, ...] to [M, C / groups, ...], group by group.
        parts = [jnp.swapaxes(part, 0, 1) for part in jnp.split(turned, groups, 0)]
        reach = [(k - 1) * d for k, d in zip(weight.shape[2:], dilations, strict=True)]
        pads = [(n, n + more) for n, more in zip(reach, extra, strict=True)]
        ones = [1] * rank
        results = [
            _convolve(part, w, ones, pads, dilations, spread=strides)
            for part, w in zip(jnp.split(x, groups, 1), parts, strict=True)
        ]
        return results[0] if groups == 1 else jnp.concatenate(results, 1)

    def pool_maximum(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return lax.reduce_window(
            x,
            -np.array(np.inf, x.dtype),
            lax.max,
            (1, 1, *kernel),
            (1, 1, *strides),
            "VALID",
            window_dilation=(1, 1, *dilations),
        )

    def pool_mean(self, x: Array, kernel: Sequence[int], strides: Sequence[int]) -> Array:
        zero = np.zeros((), x.dtype)
        window, steps = (1, 1, *kernel), (1, 1, *strides)
        return lax.reduce_window(x, zero, lax.add, window, steps, "VALID") / np.prod(kernel)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function, compiler_options=_COMPILER)

    def differentiate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.value_and_grad(function, has_aux=True)


def _convolve(
    x: Array,
    weight: Array,
    strides: Sequence[int],
    pads: list[tuple[int, int]],
    dilations: Sequence[int],
    groups: int = 1,
    spread: Sequence[int] | None = None,
) -> Array:
    axes = "DHW"[-len(pads) :]
    return lax.conv_general_dilated(
        x,
        weight,
        tuple(strides),
        pads,
        lhs_dilation=None if spread is None else tuple(spread),
        rhs_dilation=tuple(dilations),
        feature_group_count=groups,
        dimension_numbers=(f"NC{axes}", f"OI{axes}", f"NC{axes}"),
    )
