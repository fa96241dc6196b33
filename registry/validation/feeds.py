"""What a model is fed: rows of a data set, or drawn ones, whatever its inputs look like.

A data set has one array per input, rows first. The graph may want the batch on another axis, a
fixed number of rows, or an input that belongs to the call and not to a row (a rate, a state).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.validation.arrays import input_names
from registry.validation.rules import UNNAMED, RuleError

Arrays = dict[str, NDArray[Any]]
DRAWN_SEED = 20_240_101
DRAWN_SIZE = 8
"""Length of a free dimension that is no batch, where inputs are drawn."""
WORDS = ("one", "two", "three", "")


@dataclass(frozen=True)
class InputSpec:
    """One input of the graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    batch_axis: int | None
    """None: the input has no rows."""
    words: tuple[str, ...] = WORDS
    """What texts are drawn from."""

    def with_words(self, words: tuple[str, ...]) -> "InputSpec":
        """The same with texts that the graph knows, where there are any."""
        return replace(self, words=words) if words else self

    @property
    def row_shape(self) -> tuple[int | str, ...]:
        """The shape without the batch axis."""
        axis = self.batch_axis
        return self.shape if axis is None else self.shape[:axis] + self.shape[axis + 1 :]

    @property
    def fixed_rows(self) -> int | None:
        """How many rows a call takes, where the graph fixes it."""
        size = None if self.batch_axis is None else self.shape[self.batch_axis]
        return size if isinstance(size, int) else None


def choose_specs(
    inputs: Sequence[Mapping[str, Any]], given: Mapping[str, int | None]
) -> list[InputSpec]:
    """The inputs of a signature with the axis of their batch.

    Args:
        given: axes that a person named; the others are found by the name or size of dimensions.

    Raises:
        RuleError: an axis that an input does not have.
    """
    unknown = sorted(set(given) - {item["name"] for item in inputs})
    if unknown:
        raise RuleError(f"input_batch_axes names {unknown}, which are no inputs of the model")
    symbol = _batch_symbol(inputs)
    specs = []
    for item in inputs:
        shape = tuple(item["shape"])
        axis = given[item["name"]] if item["name"] in given else _find_axis(shape, symbol)
        if axis is not None and axis >= len(shape):
            raise RuleError(f"The input {item['name']!r} of shape {list(shape)} has no axis {axis}")
        specs.append(InputSpec(item["name"], item["dtype"], shape, axis))
    return specs


def _batch_symbol(inputs: Sequence[Mapping[str, Any]]) -> int | str | None:
    """What the batch dimension is called, or its fixed size."""
    for item in inputs:
        for dim in item["shape"]:
            if isinstance(dim, str) and "batch" in dim.lower():
                return dim
    first = next((item["shape"] for item in inputs if item["shape"]), None)
    found: int | str | None = first[0] if first else None
    return found


def _is_unnamed(size: int | str | None) -> bool:
    return isinstance(size, str) and size.startswith(UNNAMED)


def _find_axis(shape: tuple[int | str, ...], symbol: int | str | None) -> int | None:
    if not shape:
        return None
    if symbol in shape:
        return shape.index(symbol)
    free = [axis for axis, size in enumerate(shape) if isinstance(size, str)]
    if _is_unnamed(symbol) and len(free) == 1 and _is_unnamed(shape[free[0]]):
        # Without names, the one free dimension of a state is as long as the batch.
        return free[0]
    # A free first dimension under a name of its own; a fixed one belongs to the call.
    return 0 if isinstance(shape[0], str) else None


@dataclass(frozen=True)
class Rows:
    """Rows to run: what each input gets."""

    specs: tuple[InputSpec, ...]
    arrays: Mapping[str, NDArray[Any]]
    """By input: rows first, in the input's type; of an input without rows, its value."""
    count: int
    is_one_by_one: bool = False
    """Some input without rows has a value for each row."""

    @property
    def fixed_rows(self) -> int | None:
        sizes = {spec.fixed_rows for spec in self.specs if spec.fixed_rows is not None}
        return max(sizes, default=None)

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """These rows alone."""
        arrays = {
            name: values[indices] if self._has_rows(name) else values
            for name, values in self.arrays.items()
        }
        return replace(self, arrays=arrays, count=len(indices))

    def head(self, count: int) -> "Rows":
        return self.take(np.arange(min(count, self.count)))

    def feed(self, start: int, rows: int) -> Arrays:
        """What a call gets for `rows` rows from `start`; past the end the last one repeats."""
        indices = np.minimum(np.arange(start, start + rows), self.count - 1)
        feed: Arrays = {}
        for spec in self.specs:
            values = self.arrays[spec.name]
            if spec.batch_axis is None:
                own = values[start] if self._has_rows(spec.name) else values
                feed[spec.name] = np.asarray(own, dtype=values.dtype)
            else:
                feed[spec.name] = np.ascontiguousarray(
                    np.moveaxis(values[indices], 0, spec.batch_axis)
                )
        return feed

    def batches(self, size: int) -> Iterator[tuple[Arrays, int]]:
        """Feeds in order, each with how many of its rows count."""
        size = 1 if self.is_one_by_one else (self.fixed_rows or size)
        for start in range(0, self.count, size):
            rows = size if self.fixed_rows else min(size, self.count - start)
            yield self.feed(start, rows), min(rows, self.count - start)

    def _has_rows(self, name: str) -> bool:
        spec = next(spec for spec in self.specs if spec.name == name)
        return spec.batch_axis is not None or self.arrays[name].ndim > len(spec.shape)


@dataclass(frozen=True)
class ArrayFacts:
    """What a data set says of one of its arrays: a numpy name of its type, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_text(self) -> bool:
        return self.dtype.startswith(("str", "bytes", "<U", "|S"))


@dataclass(frozen=True)
class Match:
    """Which array feeds which input; an input that is not there is left at rest."""

    sources: Mapping[str, str]
    is_one_by_one: bool
    """Some input without rows has a value for each row."""


def match_arrays(specs: Sequence[InputSpec], arrays: Mapping[str, ArrayFacts]) -> Match:
    """How a data set feeds a model, told from what stands written of both.

    A model with one input that needs data takes the array `x`; of several each takes the array of
    its name. An input without rows may be left out, and is then 0.

    Raises:
        RuleError: an array is missing, or its shape or type does not fit.
    """
    names = input_names(arrays)
    fed = [spec for spec in specs if spec.batch_axis is not None]
    sources: dict[str, str] = {}
    is_one_by_one = False
    for spec in specs:
        source = spec.name
        if source not in arrays and len(fed) == 1 and spec.batch_axis is not None:
            source = "x" if "x" in arrays or not names else names[0]
        if source not in arrays:
            if spec.batch_axis is None:
                continue
            raise RuleError(
                f"Expected an array for each input, {[s.name for s in fed]}; the data set has "
                f"{names}"
            )
        _check_type(arrays[source], spec, source)
        shape = arrays[source].shape
        if spec.batch_axis is None and len(shape) == len(spec.shape) + 1:
            is_one_by_one = True
        _check_shape(shape, spec, source, is_one_by_one)
        sources[spec.name] = source
    return Match(sources, is_one_by_one)


def fit_dataset(specs: Sequence[InputSpec], dataset: Mapping[str, NDArray[Any]]) -> Rows:
    """The data set's rows as the model takes them, see `match_arrays`.

    Raises:
        RuleError: an array is missing, or its shape or type does not fit.
    """
    count = next(len(dataset[name]) for name in input_names(dataset) if dataset[name].ndim)
    described = {
        name: ArrayFacts(values.dtype.name, values.shape) for name, values in dataset.items()
    }
    match = match_arrays(specs, described)
    arrays = {
        spec.name: _as_type(dataset[match.sources[spec.name]], spec)
        if spec.name in match.sources
        else _rest(spec)
        for spec in specs
    }
    return Rows(tuple(specs), arrays, count, match.is_one_by_one)


def _check_shape(shape: tuple[int, ...], spec: InputSpec, source: str, is_one_by_one: bool) -> None:
    got = shape
    if spec.batch_axis is not None or (is_one_by_one and len(shape) > len(spec.shape)):
        got = got[1:]
    wanted = spec.row_shape
    fits = len(got) == len(wanted) and all(
        isinstance(want, str) or want == size for want, size in zip(wanted, got, strict=True)
    )
    if not fits:
        where = f" with its rows on axis {spec.batch_axis}" if spec.batch_axis else ""
        raise RuleError(
            f"The data set's {source} has shape {list(shape)}; the input wants "
            f"{list(spec.shape)}{where}"
        )


def _check_type(array: ArrayFacts, spec: InputSpec, source: str) -> None:
    if spec.dtype == "string":
        if not array.is_text:
            raise RuleError(f"The data set's {source} is {array.dtype}; the input wants texts")
        return
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise RuleError(f"No data set can hold the input's type {spec.dtype}") from error
    if array.is_text or not np.can_cast(np.dtype(array.dtype), dtype, casting="same_kind"):
        raise RuleError(f"The data set's {source} is {array.dtype}; the input wants {dtype}")


def _as_type(values: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    if spec.dtype == "string":
        return values.astype(object)
    return values.astype(np.dtype(spec.dtype), copy=False)


def _rest(spec: InputSpec) -> NDArray[Any]:
    """A state before anything happened."""
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    return np.full(shape, "", object) if spec.dtype == "string" else np.zeros(shape, spec.dtype)


def are_loose(specs: Sequence[InputSpec]) -> bool:
    """True where drawn rows need not be what the model takes: free sizes, and texts."""
    return any(
        spec.dtype == "string" or isinstance(size, str) for spec in specs for size in spec.row_shape
    )


def draw_rows(specs: Sequence[InputSpec], count: int, seed: int = DRAWN_SEED) -> Rows:
    """Rows of chance: standard normal numbers, 0 and 1 of whole ones, a few words.

    Raises:
        RuleError: an input of a type that nothing is known of.
    """
    generator = np.random.default_rng(seed)
    arrays: Arrays = {}
    for spec in specs:
        inner = tuple(size if isinstance(size, int) else DRAWN_SIZE for size in spec.row_shape)
        shape = inner if spec.batch_axis is None else (count, *inner)
        arrays[spec.name] = _draw(generator, spec, shape)
    return Rows(tuple(specs), arrays, count)


def _draw(generator: np.random.Generator, spec: InputSpec, shape: tuple[int, ...]) -> NDArray[Any]:
    if spec.dtype == "string":
        return generator.choice(np.array(spec.words, dtype=object), size=shape).astype(object)
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise RuleError(f"The input {spec.name!r} has the unknown type {spec.dtype}") from error
    if dtype.kind == "f":
        if spec.batch_axis is None:
            return np.zeros(shape, dtype)
        return generator.standard_normal(shape).astype(dtype)
    if "mask" in spec.name.lower() or dtype.kind == "b":
        return np.ones(shape, dtype)
    return generator.integers(0, 2, size=shape).astype(dtype)
