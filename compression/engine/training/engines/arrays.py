"""What operators ask of an array library; NumPy itself, which computes shapes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""An array of the engine, or a NumPy array where a value is known before anything runs."""


class Arrays:
    """NumPy, for what a graph computes from shapes and constants alone.

    Attributes:
        xp: functions of the same name and meaning in NumPy, JAX and PyTorch.
    """

    xp: Any = np

    def cast(self, x: Array, kind: np.dtype) -> Array:
        """The values in another type."""
        return x.astype(kind)

    def take(self, x: Array, indices: Array, axis: int) -> Array:
        """Slices along an axis; `indices` has one axis and counts from 0."""
        return self.xp.take(x, indices, axis=axis)

    def permute(self, x: Array, order: Sequence[int]) -> Array:
        """The axes in another order."""
        return self.xp.transpose(x, tuple(order))

    def pad(self, x: Array, before: list[int], after: list[int], value: Any = 0.0) -> Array:
        """A constant around `x`, so much before and after each of its axes."""
        pairs = list(zip(before, after, strict=True))
        return self.xp.pad(x, pairs, constant_values=value)

    def reduce(self, name: str, x: Array, axes: Sequence[int], keeps: bool) -> Array:
        """`sum`, `mean`, `amax` or `amin` over axes."""
        return getattr(self.xp, name)(x, axis=tuple(axes), keepdims=keeps)

    def divide_integers(self, x: Array, y: Array) -> Array:
        """The quotient, rounded towards zero."""
        return self.xp.sign(x) * self.xp.sign(y) * (self.xp.abs(x) // self.xp.abs(y))

    def is_float(self, x: Array) -> bool:
        """Whether the values are floating-point numbers."""
        return np.dtype(x.dtype).kind == "f"


class Engine(Arrays):
    """An array library that can train.

    Attributes:
        name: of the package.
        title: for people.
        nn: activations of the same name and meaning in `jax.nn` and `torch.nn.functional`.
    """

    name: str
    title: str
    nn: Any

    @abstractmethod
    def configure(self, threads: int) -> None:
        """Fixed threads and deterministic kernels, for the same bytes in every run."""

    @abstractmethod
    def to_array(self, value: NDArray) -> Array:
        """An array of the engine."""

    @abstractmethod
    def to_numpy(self, value: Array) -> NDArray:
        """A copy of the values."""

    @abstractmethod
    def erf(self, x: Array) -> Array:
        """The error function."""

    @abstractmethod
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
        """Convolution of [N, C, ...] by [M, C / groups, ...] with zeros around the input."""

    @abstractmethod
    def convolve_transposed(
        self,
        x: Array,
        weight: Array,
        strides: Sequence[int],
        dilations: Sequence[int],
        extra: Sequence[int],
        groups: int,
    ) -> Array:
        """Transposed convolution of [N, C, ...] by [C, M / groups, ...], nothing cut off.

        Args:
            extra: rows added behind each axis.
        """

    @abstractmethod
    def pool_maximum(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        """The largest value of each window."""

    @abstractmethod
    def pool_mean(self, x: Array, kernel: Sequence[int], strides: Sequence[int]) -> Array:
        """The mean of each window."""

    @abstractmethod
    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function made fast for repeated calls with the same shapes.

        Arguments and result are arrays, or dictionaries and tuples of them.
        """

    @abstractmethod
    def differentiate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that gives `((loss, rest), gradients)`.

        Args:
            function: takes a dictionary of arrays first and returns the loss and anything else.
        """
