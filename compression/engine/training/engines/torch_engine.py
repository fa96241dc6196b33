"""PyTorch as the engine, for who has it instead of JAX."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compression.engine.training.engines.arrays import Engine

_CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAXIMA: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEANS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class TorchEngine(Engine):
    """PyTorch on the CPU, one call per operator."""

    name = "torch"
    title = "PyTorch"
    xp = torch
    nn = F

    def configure(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)

    def to_array(self, value: NDArray) -> Tensor:
        return torch.from_numpy(np.array(value))

    def to_numpy(self, value: Tensor) -> NDArray:
        array: NDArray = value.detach().numpy().copy()
        return array

    def cast(self, x: Tensor, kind: np.dtype) -> Tensor:
        return x.to(torch.from_numpy(np.zeros(0, kind)).dtype)

    def take(self, x: Tensor, indices: Any, axis: int) -> Tensor:
        where = indices if isinstance(indices, Tensor) else torch.from_numpy(np.array(indices))
        return x.index_select(axis, where.to(torch.int64))

    def permute(self, x: Tensor, order: Sequence[int]) -> Tensor:
        return x.permute(tuple(order))

    def pad(self, x: Tensor, before: list[int], after: list[int], value: Any = 0.0) -> Tensor:
        # F.pad lists the last axis first.
        flat = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
        return F.pad(x, flat, value=float(value))

    def divide_integers(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.div(x, y, rounding_mode="trunc")

    def is_float(self, x: Tensor) -> bool:
        return x.is_floating_point()

    def erf(self, x: Tensor) -> Tensor:
        return torch.erf(x)

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        strides: Sequence[int],
        before: list[int],
        after: list[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Tensor:
        padding = before
        if before != after:
            x, padding = self.pad(x, [0, 0, *before], [0, 0, *after]), [0] * len(before)
        convolution = _CONVOLUTIONS[len(before)]
        result: Tensor = convolution(x, weight, None, strides, padding, dilations, groups)
        return result

    def convolve_transposed(
        self,
        x: Tensor,
        weight: Tensor,
        strides: Sequence[int],
        dilations: Sequence[int],
        extra: Sequence[int],
        groups: int,
    ) -> Tensor:
        rank = len(strides)
        result: Tensor = _TRANSPOSED[rank](
            x, weight, None, strides, [0] * rank, extra, groups, dilations
        )
        return result

    def pool_maximum(
        self, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Tensor:
        result: Tensor = _MAXIMA[len(kernel)](x, kernel, strides, 0, dilations)
        return result

    def pool_mean(self, x: Tensor, kernel: Sequence[int], strides: Sequence[int]) -> Tensor:
        result: Tensor = _MEANS[len(kernel)](x, kernel, strides)
        return result

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with torch.no_grad():
                return function(*arguments)

        return run

    def differentiate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(weights: dict[str, Tensor], *rest: Any) -> Any:
            leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
            with torch.enable_grad():
                loss, other = function(leaves, *rest)
                slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            gradients = {
                name: torch.zeros_like(leaf) if slope is None else slope
                for (name, leaf), slope in zip(leaves.items(), slopes, strict=True)
            }
            return (loss.detach(), other), gradients

        return run
