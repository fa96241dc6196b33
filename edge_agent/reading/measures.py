"""The numbers that stand for an answer without classes: what records carry and windows count."""

from typing import Any

import numpy as np

from .contract import PROJECTIONS, Contract
from .scores import Array, Box, activate

MAX_VALUES = 8
"""Numbers of a regression that are measured one by one; of more, the first."""
MAX_SHARES = 16
"""Classes whose share is measured by itself; the others make up one more."""


def name_measures(contract: Contract, labels: int) -> tuple[str, ...]:
    """The names of the measures, in their order; the same for all releases of one contract.

    Args:
        labels: entries of the label map, by which shares are told apart; 0 for none.
    """
    task, form = contract.task, contract.form
    if form == "multi_label":
        return ("positives",)
    if task == "regression":
        if contract.values == 1:
            return ("value",)
        return tuple(f"value_{i}" for i in range(min(contract.values, MAX_VALUES)))
    if task == "detection":
        return ("boxes", "box_score", *_share_names(labels))
    if task == "segmentation":
        return ("segment_score", *_share_names(labels)) if form != "mask" else _share_names(labels)
    if task == "embedding":
        projections = (f"projection_{i}" for i in range(PROJECTIONS))
        return ("norm", *(("distance",) if contract.centroid else ()), *projections)
    if task == "sequence":
        return ("length", "step_score")
    if task == "anomaly":
        return ("anomaly_score",)
    return ()


def _share_names(labels: int) -> tuple[str, ...]:
    names = tuple(f"share_{i}" for i in range(min(labels, MAX_SHARES)))
    return (*names, "share_other") if labels > MAX_SHARES or not labels else names


def measure_shares(counts: Array, labels: int) -> list[float]:
    """Shares of the first classes, and of all others where they are not each measured.

    Args:
        counts: by class, of shape (classes,); the shares of nothing are all 0.
    """
    total = float(counts.sum())
    apart = min(labels, MAX_SHARES)
    first = np.zeros(apart)
    first[: min(apart, len(counts))] = counts[:apart]
    shares = [float(n) / total if total else 0.0 for n in first]
    if labels > MAX_SHARES or not labels:
        shares.append(float(counts[apart:].sum()) / total if total else 0.0)
    return shares


def measure_boxes(boxes: list[Box], labels: int) -> list[float]:
    """How many boxes are kept, their mean score (0 of none), and the shares of their classes."""
    numbers = [max(box.class_id, 0) for box in boxes]
    counts = np.bincount(numbers) if numbers else np.zeros(1)
    score = sum(box.score for box in boxes) / len(boxes) if boxes else 0.0
    return [float(len(boxes)), score, *measure_shares(counts, labels)]


def measure_segments(contract: Contract, frame: Array, labels: int) -> list[float] | None:
    """The mean score of the pixels' classes, and the shares of the classes; None: not finite.

    Args:
        frame: one sample; of `mask` the class of each pixel, else scores with their class axis as
            the contract has it, less the batch axis.
    """
    if contract.form == "mask":
        numbers = np.clip(frame.astype(np.int64).reshape(-1), 0, None)
        return measure_shares(np.bincount(numbers), labels)
    values = frame.astype(np.float64)
    is_binary = contract.form == "binary"
    table = values.reshape(-1, 1) if is_binary else move_classes(contract, values)
    if not np.isfinite(table).all():
        return None
    chances = activate(table, contract.activation)
    best = chances.argmax(axis=1)
    if is_binary:
        chances = np.concatenate([1.0 - chances, chances], axis=1)
        best = (chances[:, 1] >= contract.threshold).astype(np.int64)
    score = float(np.take_along_axis(chances, best[:, None], axis=1).mean())
    return [score, *measure_shares(np.bincount(best), labels)]


def move_classes(contract: Contract, frame: Array) -> Array:
    """One sample's scores as (pixels or steps, classes)."""
    axis = contract.class_axis
    if axis is not None:
        if contract.batch_axis is not None and axis > contract.batch_axis:
            axis -= 1
        frame = np.moveaxis(frame, axis, -1)
    return frame.reshape(-1, frame.shape[-1]) if frame.ndim else frame.reshape(1, 1)


def measure_vector(contract: Contract, vector: Array) -> list[float] | None:
    """Norm, distance to the reference's centroid and the projections; None: not finite."""
    flat = vector.astype(np.float64).reshape(-1)
    norm = float(np.sqrt(flat @ flat)) if flat.size else 0.0
    if not np.isfinite(norm):
        return None
    places = project(flat)
    distance = []
    if contract.centroid:
        away = places - np.asarray(contract.centroid)
        distance = [float(np.sqrt(away @ away))]
    return [norm, *distance, *map(float, places)]


def project(vector: Array) -> Array:
    """The vector on fixed directions of random signs, float64 of shape (PROJECTIONS,).

    Lengths survive such a projection on average (Achlioptas, J. Comput. Syst. Sci. 66, 2003); the
    signs are bits of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), the same on every machine.
    """
    state = np.arange(1, len(vector) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    places = np.empty(PROJECTIONS)
    for index in range(PROJECTIONS):
        signs = ((state >> np.uint64(index)) & np.uint64(1)).astype(np.float64) * 2.0 - 1.0
        places[index] = vector @ signs
    return places / np.sqrt(PROJECTIONS)


def measure_steps(contract: Contract, frame: Array) -> list[float] | None:
    """How many steps say something, and the mean score of those; None: not finite.

    Of `ctc` the greedy reading counts: the best class of each step, repeats and blanks left out
    (Graves and others, ICML 2006, section 3.2).
    """
    table = move_classes(contract, frame.astype(np.float64))
    if not np.isfinite(table).all():
        return None
    chances = activate(table, contract.activation)
    best = chances.argmax(axis=1)
    blank = 0 if contract.blank is None else contract.blank
    says = best != blank
    if contract.form == "ctc":
        says &= np.concatenate([[True], best[1:] != best[:-1]])
    scores = chances.max(axis=1)[says]
    return [float(says.sum()), float(scores.mean()) if len(scores) else 0.0]


def first_numbers(contract: Contract, values: Array) -> list[float] | None:
    """The numbers of a regression that are measured; None: not finite."""
    flat: Any = values.astype(np.float64).reshape(-1)
    if not np.isfinite(flat).all():
        return None
    return [float(value) for value in flat[: min(contract.values, MAX_VALUES)]]
