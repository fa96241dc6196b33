"""What of a model's answers is judged, and how, by the contract of its outputs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compression.exceptions import ModelUnsupportedError
from compression.measure.agreement import Figures, choose_rule
from compression.measure.answers import Answers, as_rows_first, classes_of, parts_of
from compression.measure.distance import find_excess
from compression.measure.layout import find_layout
from compression.measure.models import OpenModel
from compression.measure.samples import Samples
from compression.measure.sessions import run_samples
from compression.measure.statistics import (
    Proportion,
    collapse_flags,
    collapsed_columns,
    mean_divergence,
    mean_share,
    measure_share,
    relative_error,
)
from registry.reading.contract import Contract

CLASSES = Contract("classification", "scores", {})
OTHER = Contract("other", "none", {})
# Their numbers are names, and names have no distance.
_NAMED_FORMS = ("label", "mask")


@dataclass(frozen=True)
class Scoring:
    """How answers are read and compared.

    Attributes:
        contract: of the outputs; one that names none takes the first for scores, all for others.
        classes: how many a classifier has; None where nobody looked.
    """

    contract: Contract = CLASSES
    classes: int | None = None

    @property
    def is_classifier(self) -> bool:
        """Whether the answer is the highest of several scores."""
        return self.contract.task == "classification" and self.contract.form == "scores"

    @property
    def has_classes(self) -> bool:
        """Whether each answer is one class, which a label can be held against."""
        return self.contract.has_classes and self.contract.form != "multi_label"

    @property
    def agreement_rule(self) -> str:
        """When two answers agree, in words."""
        return choose_rule(self.contract).sentence

    def list_outputs(self, names: list[str]) -> list[str]:
        """Those of a model's outputs that are judged."""
        named = list(dict.fromkeys(self.contract.outputs.values()))
        return named or (names[:1] if self.is_classifier else names)

    def score(self, path: Path, samples: Samples, threads: int) -> Answers:
        """The answers of the model file to all samples, see `score_model`."""
        return self.score_model(OpenModel(path, threads), samples)

    def score_model(
        self, model: OpenModel, samples: Samples, *, is_saturating: bool = False
    ) -> Answers:
        """The answers to all samples.

        INT8 sums have 32 bits, as on processors with VNNI and on ARM, whatever this machine has;
        with `is_saturating` 16 bits, as on x86 with AVX2 or AVX-512 and without VNNI. Where this
        machine has the latter alone, and an operator whose sums are not computed here
        (`model.exact_fault`), the latter stand for both: no better than elsewhere, and so safe.
        """
        session = model.kernels(is_saturating=is_saturating or bool(model.exact_fault))
        names = self.list_outputs([item.name for item in session.get_outputs()])
        axes = [samples.output_axes.get(name, 0) for name in names]
        outputs = dict(zip(names, run_samples(session, samples, names), strict=True))
        contract = as_rows_first(self.contract, axes[0], outputs[names[0]].ndim)
        return Answers(outputs, contract, is_ragged=None in axes)

    def compare(self, reference: Answers, answers: Answers) -> Proportion:
        """The share of samples whose answers agree, or how far they do on average."""
        return self.compare_fully(reference, answers)[0]

    def compare_fully(self, reference: Answers, answers: Answers) -> tuple[Proportion, Figures]:
        """The same with what people of the field look at, by name."""
        rows, figures = choose_rule(self.contract).compare(reference, answers)
        return mean_share(rows), figures

    def divergence(self, reference: Answers, answers: Answers) -> float:
        """How far answers are off: of classes in nats, else the squared relative error."""
        if self.is_classifier:
            return mean_divergence(reference.flat, answers.flat)
        if reference.flat.shape != answers.flat.shape or not np.isfinite(answers.flat).all():
            return float("inf")
        return relative_error(reference.flat, answers.flat) ** 2

    def relative_error(self, reference: Answers, answers: Answers) -> float | None:
        """The distance of the answers by their size, of the part that is furthest off.

        Each output is a part, and in one tensor the boxes of a detector and their scores are two:
        coordinates are so much larger that nothing of the scores would show beside them. None of
        classes and of what is not finite.
        """
        is_finite = bool(np.isfinite(answers.flat).all())
        if self.contract.form in _NAMED_FORMS or not is_finite:
            return None
        pairs = zip(parts_of(reference), parts_of(answers), strict=True)
        errors = [relative_error(before, after) for before, after in pairs]
        return max(errors, default=None)

    def list_collapses(self, reference: Answers, answers: Answers) -> list[str]:
        """Signs that a model no longer computes what its source does.

        Besides those of `statistics`, `column` where one of them collapsed, and `far` where answers
        without classes are further off than their task allows.
        """
        flags = self.collapse_flags(reference, answers)
        pairs = zip(reference.outputs.values(), answers.outputs.values(), strict=True)
        if any(collapsed_columns(before, after) for before, after in pairs):
            flags.append("column")
        if not flags and not self.contract.has_classes:
            agreement, figures = self.compare_fully(reference, answers)
            error = self.relative_error(reference, answers)
            if find_excess(self.contract.task, error, agreement.value, figures) is not None:
                flags.append("far")
        return flags

    def collapse_flags(self, reference: Answers, answers: Answers) -> list[str]:
        """`non_finite`, `all_zero` and `constant`, of answers whose source's are not so too."""
        return [flag for flag in collapse_flags(answers.flat) if not self._is_same(flag, reference)]

    def _is_same(self, flag: str, reference: Answers) -> bool:
        """Whether the source's names or boxes are so too, which may well be what the rows hold."""
        may_be = self.contract.form in _NAMED_FORMS or reference.is_ragged
        return may_be and flag != "non_finite" and flag in collapse_flags(reference.flat)

    def hits(self, answers: Answers, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are of the class that their label is."""
        return classes_of(answers) == labels

    def accuracy(self, answers: Answers, labels: NDArray[np.int64]) -> Proportion:
        """How often the class is the label."""
        hits = self.hits(answers, labels)
        return measure_share(int(hits.sum()), len(labels))

    def to_columns(self, samples: Samples) -> Samples:
        """The samples with labels by the model's own columns, none where it has no classes."""
        if not self.has_classes:
            # Labels are classes; without any there is nothing to hold against them.
            return samples.unlabelled()
        ids = self.contract.class_ids
        if samples.labels is None or not ids:
            return samples
        columns = {number: column for column, number in enumerate(ids)}
        labels = np.array([columns.get(int(label), -1) for label in samples.labels], np.int64)
        return replace(samples, labels=labels)


def choose_scoring(
    model: OpenModel, samples: Samples, *, contract: Contract | None, memory_bytes: int
) -> tuple[Scoring, Samples]:
    """How to judge a model, and the samples with the places of rows in its outputs.

    The source is run on a few rows.

    Args:
        contract: of its outputs; None: the first are scores of classes where they look like such.
        memory_bytes: the answers to all samples must fit into a quarter of it.

    Raises:
        ModelUnsupportedError: the source does not run, or does not answer row by row.
    """
    session = model.session()
    names = [item.name for item in session.get_outputs()]
    wanted = Scoring(contract or CLASSES)
    judged = wanted.list_outputs(names)
    missing = sorted(set(judged) - set(names))
    if missing:
        raise ModelUnsupportedError(f"The contract names {missing}; the outputs are {names}.")
    laid = find_layout(session, samples, judged, wanted.contract.batch_axis)
    probe = wanted.score_model(model, laid.head(laid.count_rows(1)))
    if contract is None and (probe.first.ndim != 2 or probe.first.shape[1] < 2):
        wanted = Scoring(OTHER)
        laid = find_layout(session, samples, names, wanted.contract.batch_axis)
        probe = wanted.score_model(model, laid.head(laid.count_rows(1)))
    row_elements = sum(value.size for value in probe.outputs.values()) // len(probe)
    needed = 2 * 8 * len(samples) * row_elements
    if needed > memory_bytes / 4:
        raise ModelUnsupportedError(
            f"The answers to {len(samples)} samples take {needed:,} bytes, more than a quarter of "
            f"limits.memory_bytes ({memory_bytes:,}); use fewer evaluation rows."
        )
    return replace(wanted, classes=_count_classes(wanted, probe)), laid


def _count_classes(scoring: Scoring, probe: Answers) -> int | None:
    if not scoring.has_classes:
        return None
    if scoring.contract.form == "binary":
        return 2
    if scoring.contract.form == "label":
        return len(scoring.contract.classes) or None
    return probe.first.size // len(probe)
