"""What is learned from: rows with the teacher's scores, one part held out, others varied."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.samples import Samples
from compression.measure.scoring import Scoring
from compression.measure.sessions import run_samples
from compression.measure.statistics import to_probabilities

HELD_OUT_SHARE = 0.2
MIN_ROWS = 32
_TINY = 1e-6


@dataclass(frozen=True)
class Variation:
    """How rows are varied each time they are shown; nothing by default.

    Attributes:
        noise: deviation of normal noise, as a share of the deviation of the input's values.
        shift: images are moved by up to so many pixels; the edge is repeated.
        mixup: rows are blended with others, by shares of Beta(mixup, mixup) (Zhang et al. 2018);
            a teacher that is asked about blends can be followed for long without being learned
            by heart (Beyer et al. 2022).
    """

    noise: float = 0.0
    shift: int = 0
    mixup: float = 0.0

    @property
    def is_none(self) -> bool:
        return self.noise == 0.0 and self.shift == 0 and self.mixup == 0.0


@dataclass(frozen=True)
class Batch:
    """Inputs by name, the teacher's scores [B, K], and the labels as shares [B, K] or None."""

    feeds: dict[str, NDArray]
    teacher: NDArray[np.float32]
    labels: NDArray[np.float32] | None


class Lesson:
    """Calibration rows, split once for all that is trained on them.

    Attributes:
        train, held_out: rows to learn from, and to judge by.
        outputs: the outputs that are learned: a classifier's scores, any other model's all.
        teacher_train, teacher_held_out: what the teacher gives there, side by side, [N, K].
        is_classifier: whether those are scores of K classes.
        is_probability: whether those scores are probabilities already.
        scale: root mean square of each column [K], by which distances are measured.
    """

    def __init__(
        self,
        samples: Samples,
        teacher: Any,
        *,
        scoring: Scoring,
        variation: Variation,
        seed: int,
    ) -> None:
        """Runs the teacher, an ONNX Runtime session, over all rows once.

        Raises:
            DataSetUnusableError: too few rows, or labels the teacher has no class for.
            ModelUnsupportedError: the teacher's answers are not floats, one row per sample.
        """
        if len(samples) < MIN_ROWS:
            raise DataSetUnusableError(
                f"Training needs at least {MIN_ROWS} calibration rows, found {len(samples)}."
            )
        if not samples.is_plain:
            raise ModelUnsupportedError(
                "Training feeds rows on the first axis of every input, several at a time; this "
                "model takes others."
            )
        names = [item.name for item in teacher.get_outputs()]
        self.is_classifier = scoring.is_classifier
        self.outputs = scoring.list_outputs(names)
        is_float = all(values.dtype.kind == "f" for values in samples.inputs.values())
        # A blend of whole numbers stands for nothing.
        self._variation = variation if is_float else replace(variation, mixup=0.0)
        self._session = teacher
        scores = self._ask(samples)
        self._check(scores, samples.labels)
        order = np.random.default_rng([seed, 1]).permutation(len(samples))
        count = round(len(samples) * HELD_OUT_SHARE)
        held, rest = np.sort(order[:count]), np.sort(order[count:])
        self.held_out, self.train = samples.take(held), samples.take(rest)
        self.teacher_held_out, self.teacher_train = scores[held], scores[rest]
        self.is_probability = self.is_classifier and np.array_equal(
            to_probabilities(scores), scores.astype(np.float64)
        )
        self.scale = np.sqrt(np.mean(self.teacher_train**2, axis=0)) + _TINY
        self._spread = {name: float(values.std()) for name, values in self.train.inputs.items()}

    @property
    def classes(self) -> int:
        return self.teacher_train.shape[1]

    @property
    def has_labels(self) -> bool:
        return self.train.labels is not None

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        """Batches without end: each pass over the rows in a new order, whole batches only."""
        generator = np.random.default_rng([seed, 2])
        size = min(size, len(self.train))
        while True:
            order = generator.permutation(len(self.train))
            for start in range(0, len(order) - size + 1, size):
                yield self._batch(order[start : start + size], generator)

    def _batch(self, rows: NDArray[np.int64], generator: np.random.Generator) -> Batch:
        part = self.train.take(rows)
        labels = None if part.labels is None else _one_hot(part.labels, self.classes)
        if self._variation.is_none:
            return Batch(part.inputs, self.teacher_train[rows], labels)
        feeds = {
            name: self._vary(values, self._spread[name], generator)
            for name, values in part.inputs.items()
        }
        if self._variation.mixup:
            shares = generator.beta(self._variation.mixup, self._variation.mixup, len(rows))
            partners = generator.permutation(len(rows))
            feeds = {name: blend(value, partners, shares) for name, value in feeds.items()}
            labels = None if labels is None else blend(labels, partners, shares)
        return Batch(feeds, self._ask(replace(part, inputs=feeds, labels=None)), labels)

    def _vary(self, values: NDArray, spread: float, generator: np.random.Generator) -> NDArray:
        if values.dtype.kind != "f":
            return values
        if self._variation.shift and values.ndim == 4:
            values = shift_images(values, self._variation.shift, generator)
        if self._variation.noise:
            drawn = generator.standard_normal(values.shape, dtype=np.float32)
            values = values + (self._variation.noise * spread * drawn).astype(values.dtype)
        return values

    def _ask(self, samples: Samples) -> NDArray[np.float32]:
        answers = run_samples(self._session, samples, self.outputs)
        for name, values in zip(self.outputs, answers, strict=True):
            if values.dtype != np.float32:
                raise ModelUnsupportedError(
                    f"Training follows FP32 outputs; {name!r} is of type {values.dtype}."
                )
        shape = answers[0].shape[1:]
        if self.is_classifier and not 1 < math.prod(shape) == max(shape):
            raise ModelUnsupportedError(
                f"Expected scores [N, classes] in {self.outputs[0]!r}, found {answers[0].shape}."
            )
        return np.concatenate([values.reshape(len(values), -1) for values in answers], axis=1)

    def _check(self, scores: NDArray, labels: NDArray | None) -> None:
        if not np.isfinite(scores).all():
            raise ModelUnsupportedError("The source's own answers are not finite.")
        if labels is not None and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
            raise DataSetUnusableError(
                f"Labels must be 0 to {scores.shape[1] - 1}, "
                f"found {labels.min()} to {labels.max()}."
            )


def blend(values: NDArray, partners: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray:
    """Each row [B, ...] taken by its share [B], and its partner by the rest."""
    weights = shares.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return values * weights + values[partners] * (1 - weights)


def shift_images(values: NDArray, pixels: int, generator: np.random.Generator) -> NDArray:
    """Images [N, C, H, W], each moved by its own -`pixels` to `pixels` along both axes."""
    count, _, height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    tops, lefts = generator.integers(0, 2 * pixels + 1, (2, count))
    return np.ascontiguousarray(windows[np.arange(count), :, tops, lefts])


def _one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    shares = np.zeros((len(labels), classes), np.float32)
    shares[np.arange(len(labels)), labels] = 1.0
    return shares
