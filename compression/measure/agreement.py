"""How far two models' answers agree, in the terms of their task. Pure.

Each rule gives one number in [0, 1] a row; their mean is the agreement. Figures are what people of
the field look at, of the source's answers as if they were the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.measure.answers import (
    Answers,
    chances_of,
    classes_of,
    iter_boxes,
    segments_of,
    steps_of,
    vectors_of,
)
from compression.measure.statistics import near_rows
from registry.reading.contract import Contract
from registry.reading.scores import Box

NEAR = 0.05
MIN_OVERLAP = 0.5
_TINY = 1e-12

Shares = NDArray[np.float64]
Figures = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """How answers of a task are compared.

    Attributes:
        sentence: when two answers agree, in words.
        compare: the agreement of each row and the figures, of the source's answers and others'.
    """

    sentence: str
    compare: Callable[[Answers, Answers], tuple[Shares, Figures]]


def choose_rule(contract: Contract) -> Rule:
    """The rule of a contract."""
    return _RULES.get(f"{contract.task}.{contract.form}") or _RULES[contract.task]


def _same_class(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    same = classes_of(reference) == classes_of(answers)
    return same.astype(np.float64), {}


def _same_labels(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    """F1 of the labels of each row (Dice 1945), and of all together."""
    threshold = reference.contract.threshold
    left, right = (chances_of(item) >= threshold for item in (reference, answers))
    both, either = (left & right).sum(axis=1), left.sum(axis=1) + right.sum(axis=1)
    total = int(either.sum())
    f1 = 2.0 * float(both.sum()) / total if total else 1.0
    return _share(2.0 * both, either), {"labels_f1": f1}


def _near_values(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    left, right = reference.flat.astype(np.float64), answers.flat.astype(np.float64)
    near = near_rows(left, right, NEAR).astype(np.float64)
    if not np.isfinite(right).all():
        return near, {}
    error = right - left
    figures = {
        "mean_absolute_error": float(np.abs(error).mean()),
        "root_mean_square_error": float(np.sqrt((error**2).mean())),
    }
    spread = float(((left - left.mean(axis=0)) ** 2).sum())
    if spread > 0:
        figures["variance_explained"] = 1.0 - float((error**2).sum()) / spread
    return near, figures


def _same_boxes(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    """F1 of the boxes of each row, matched within a class from the best score on."""
    hits, sizes, left_total, right_total = [], [], 0, 0
    for left, right in zip(iter_boxes(reference), iter_boxes(answers), strict=True):
        found, wanted = right or [], left or []
        broken = right is None and left is not None
        hits.append(0 if broken else count_matches(wanted, found))
        sizes.append(max(len(wanted) + len(found), int(broken)))
        left_total, right_total = left_total + len(wanted), right_total + len(found)
    both, either = np.array(hits), np.array(sizes)
    total = left_total + right_total
    figures = {
        "boxes_of_source": left_total / len(reference),
        "boxes": right_total / len(reference),
        "boxes_f1": 2.0 * float(both.sum()) / total if total else 1.0,
    }
    # Frames in which neither finds anything say nothing, unless there is nothing else.
    told = either > 0
    shares = _share(2.0 * both, either)
    return (shares[told] if told.any() else shares), figures


def count_matches(wanted: Sequence[Box], found: Sequence[Box]) -> int:
    """How many boxes have a partner of their class that covers at least half of their union.

    Each takes the best partner that is left, the highest score first, as the PASCAL VOC challenge
    matches (Everingham et al. 2010, section 4.2).
    """
    left = list(wanted)
    count = 0
    for box in sorted(found, key=lambda item: -item.score):
        overlaps = [_overlap(box, item) if item.class_id == box.class_id else 0.0 for item in left]
        best = max(range(len(left)), key=overlaps.__getitem__, default=-1)
        if best >= 0 and overlaps[best] >= MIN_OVERLAP:
            del left[best]
            count += 1
    return count


def _overlap(box: Box, other: Box) -> float:
    if box.corners == other.corners:
        return 1.0
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _order(box), _order(other)
    shared = max(min(ax2, bx2) - max(ax1, bx1), 0.0) * max(min(ay2, by2) - max(ay1, by1), 0.0)
    areas = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1)
    return shared / max(areas - shared, _TINY)


def _order(box: Box) -> tuple[float, float, float, float]:
    """The corners with the lower ones first, as not every head gives them."""
    x1, y1, x2, y2 = box.corners
    return (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


def _same_pixels(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    left, right = segments_of(reference), segments_of(answers)
    overlaps = []
    for number in np.unique(left):
        one, other = left == number, right == number
        overlaps.append(float((one & other).sum()) / float((one | other).sum()))
    same = (left == right).mean(axis=1)
    return same, {"mean_iou": float(np.mean(overlaps)), "pixels": float(same.mean())}


def _same_direction(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    left, right = vectors_of(reference), np.nan_to_num(vectors_of(answers))
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine = (left * right).sum(axis=1) / np.maximum(lengths, _TINY)
    figures = {"mean_cosine": float(cosine.mean()), "least_cosine": float(cosine.min())}
    return np.clip(cosine, 0.0, 1.0), figures


def _same_tags(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    left, right = steps_of(reference), steps_of(answers)
    same = (left == right).mean(axis=1)
    return same, {"same_sequences": float((left == right).all(axis=1).mean())}


def _same_text(reference: Answers, answers: Answers) -> tuple[Shares, Figures]:
    """1 less the edit distance of the greedy readings over the longer one's length."""
    blank = reference.contract.blank or 0
    pairs = [
        (read_greedily(left, blank), read_greedily(right, blank))
        for left, right in zip(steps_of(reference), steps_of(answers), strict=True)
    ]
    shares = [1.0 - edit_distance(a, b) / max(len(a), len(b), 1) for a, b in pairs]
    edits, length = sum(edit_distance(a, b) for a, b in pairs), sum(len(a) for a, _ in pairs)
    figures = {
        "label_error_rate": edits / max(length, 1),
        "same_sequences": float(np.mean([a == b for a, b in pairs])),
    }
    return np.array(shares), figures


def read_greedily(steps: NDArray[np.int64], blank: int) -> list[int]:
    """The classes of steps without repeats and blanks (Graves et al. 2006, section 3.2)."""
    changed = np.concatenate([[True], steps[1:] != steps[:-1]])
    return [int(step) for step in steps[changed & (steps != blank)]]


def edit_distance(left: Sequence[int], right: Sequence[int]) -> int:
    """The fewest insertions, deletions and replacements between both (Levenshtein 1966)."""
    row = list(range(len(right) + 1))
    for count, item in enumerate(left, 1):
        before, row[0] = row[0], count
        for place, other in enumerate(right, 1):
            change = before + (item != other)
            before = row[place]
            row[place] = min(row[place] + 1, row[place - 1] + 1, change)
    return row[-1]


def _share(part: NDArray, whole: NDArray) -> Shares:
    """A part of each whole; 1 of nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


_NEAR_RULE = Rule(f"within {NEAR:.0%} of the source", _near_values)
_RULES = {
    "classification": Rule("the same class", _same_class),
    "classification.multi_label": Rule("F1 of the labels", _same_labels),
    "regression": _NEAR_RULE,
    "anomaly": _NEAR_RULE,
    "other": _NEAR_RULE,
    "detection": Rule(f"F1 of boxes of a class that share {MIN_OVERLAP:.0%}", _same_boxes),
    "segmentation": Rule("the share of pixels of the same class", _same_pixels),
    "embedding": Rule("the cosine of the vectors", _same_direction),
    "sequence": Rule("1 less the label error rate", _same_text),
    "sequence.tags": Rule("the share of steps of the same label", _same_tags),
}
