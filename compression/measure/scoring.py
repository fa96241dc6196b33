"""What of a model's answers is judged: classes by their scores, anything else by its distance."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compression.exceptions import ModelUnsupportedError
from compression.measure.models import OpenModel
from compression.measure.samples import Samples
from compression.measure.sessions import batch_rows, run_samples
from compression.measure.statistics import Proportion, agreement_of, near_share

PROBE_ROWS = 3
NEAR = 0.05


@dataclass(frozen=True)
class Scoring:
    """How answers become one row of numbers per sample.

    A classifier's are the scores of `output` (None: the first); those of any other model are all
    its outputs side by side.
    """

    output: str | None = None
    is_classifier: bool = True
    classes: int | None = None
    """How many scores a classifier gives; None where nobody looked."""

    @property
    def agreement_rule(self) -> str:
        """When two answers agree, in words."""
        return "the same class" if self.is_classifier else f"within {NEAR:.0%} of the source"

    def score(self, path: Path, samples: Samples, threads: int) -> NDArray:
        """The answers of the model file to all samples, see `score_model`."""
        return self.score_model(OpenModel(path, threads), samples)

    def score_model(
        self, model: OpenModel, samples: Samples, *, is_saturating: bool = False
    ) -> NDArray:
        """The answers to all samples, [N, C].

        INT8 sums have 32 bits, as on processors with VNNI and on ARM, whatever this machine has;
        with `is_saturating` 16 bits, as on x86 with AVX2 or AVX-512 and without VNNI.
        """
        return join_answers(self.answer(model, samples, is_saturating=is_saturating))

    def answer(
        self, model: OpenModel, samples: Samples, *, is_saturating: bool = False
    ) -> dict[str, NDArray]:
        """The outputs that are judged, by name, each with the rows on its first axis."""
        session = model.kernels(is_saturating=is_saturating)
        names = [item.name for item in session.get_outputs()]
        if self.is_classifier:
            names = [self.output or names[0]]
        return dict(zip(names, run_samples(session, samples, names), strict=True))

    def compare(self, reference: NDArray, scores: NDArray) -> Proportion:
        """The share of samples whose answers agree."""
        if self.is_classifier:
            return agreement_of(reference, scores)
        return near_share(reference, scores, NEAR)


def join_answers(answers: Mapping[str, NDArray]) -> NDArray:
    """All outputs side by side, [N, C]."""
    rows = [value.reshape(len(value), -1) for value in answers.values()]
    return np.concatenate(rows, axis=1)


def choose_scoring(
    model: OpenModel, samples: Samples, *, output: str | None, task: str, memory_bytes: int
) -> Scoring:
    """How to judge a model, found by running the source on a few rows.

    Args:
        output: the output that holds the scores, where it is known.
        task: what the model is for; anything but `classification` is judged by distance.
        memory_bytes: the answers to all samples must fit into a quarter of it.

    Raises:
        ModelUnsupportedError: the source does not run, or does not answer row by row.
    """
    try:
        session = model.session()
        rows = batch_rows(session, PROBE_ROWS)
        picked = samples.take(np.resize(np.arange(len(samples)), rows))
        outputs = [item.name for item in session.get_outputs()]
        values = session.run(outputs, picked.inputs)
    except Exception as error:  # every class of ONNX Runtime's binding derives from Exception alone
        raise ModelUnsupportedError(
            f"The source does not run on the evaluation samples: {str(error)[:500]}"
        ) from error
    answers = dict(zip(outputs, (np.asarray(value) for value in values), strict=True))
    if output is not None and output not in answers:
        raise ModelUnsupportedError(f"The scores are in {output!r}; the outputs are {outputs}.")
    scores = answers[output or outputs[0]]
    is_classifier = task == "classification" and scores.ndim == 2 and scores.shape[1] > 1
    judged = [output or outputs[0]] if is_classifier else outputs
    for name in judged:
        _check_answer(name, answers[name], rows)
    needed = 2 * 8 * len(samples) * sum(answers[name].size // rows for name in judged)
    if needed > memory_bytes / 4:
        raise ModelUnsupportedError(
            f"The answers to {len(samples)} samples take {needed:,} bytes, more than a quarter of "
            f"limits.memory_bytes ({memory_bytes:,}); use fewer evaluation rows."
        )
    return Scoring(output, is_classifier, scores.shape[1] if is_classifier else None)


def _check_answer(name: str, value: NDArray, rows: int) -> None:
    if value.dtype.kind not in "fiub":
        raise ModelUnsupportedError(f"Output {name!r} holds {value.dtype}, expected numbers.")
    if value.ndim < 1 or len(value) != rows:
        raise ModelUnsupportedError(
            f"Output {name!r} has the shape {value.shape} for {rows} rows; expected one answer "
            "per row."
        )
