"""The reference profile of a model on a data set; pure numpy.

Bins are those of the records that devices send: 64 equal-width bins of confidence over [0, 1], one
count per class and one for all others, and 64 bins between the quantiles of each feature: two of
the input, then the task's measures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.reading.inputs import INPUT_FEATURES

SCHEMA = "aviary.baseline/1"
CONFIDENCE_BINS = 64
FEATURE_BINS = 64
LATENCY_GAMMA = 1.05
ROUNDING = 1e-6
"""What 32-bit arithmetic may differ by, relative to the numbers it adds up: 2**-24 some times."""

FloatArray = NDArray[np.float64]


def quantile_edges(values: FloatArray, resolution: float = 0.0) -> list[float]:
    """63 rising edges that cut the values into 64 bins of about equal counts.

    No edge lies on a value: a device that describes the same input in other precision must find the
    same bin. Values closer than `resolution` are one value; it gets a bin of its own, with an edge
    on each side, so that a constant feature that moves up or down leaves its bin.
    """
    edges = np.maximum.accumulate(np.quantile(values, np.arange(1, FEATURE_BINS) / FEATURE_BINS))
    lower = edges - resolution
    if resolution > 0:
        # Of the edges at one value all but the first go to its other side.
        is_repeated = np.concatenate([[False], np.diff(edges) <= resolution])
        lower = np.where(is_repeated, edges + resolution, lower)
    return [float(edge) for edge in np.maximum.accumulate(lower)]


def feature_profile(
    name: str, values: FloatArray, resolution: float | None = None
) -> dict[str, Any]:
    """One feature: entry i of counts holds edges[i - 1] <= value < edges[i].

    Args:
        resolution: difference that means nothing; None for `ROUNDING` times the largest size of a
            value, or times 1 where all are smaller: inputs are mostly of about unit size.
    """
    values = np.asarray(values, dtype=np.float64)
    if resolution is None:
        resolution = ROUNDING * max(1.0, float(np.max(np.abs(values), initial=0.0)))
    edges = quantile_edges(values, resolution)
    index = np.searchsorted(np.asarray(edges), values, side="right")
    counts = np.bincount(index, minlength=FEATURE_BINS)
    return {"name": name, "edges": edges, "counts": [int(count) for count in counts]}


def calibration_curve(
    confidence: FloatArray, correct: NDArray[np.bool_], bins: int = 15
) -> dict[str, list[float]]:
    """Accuracy by equal-mass bin of confidence; `edges` has one entry more than `accuracy`."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    edges = [0.0, *(float(confidence[part[-1]]) for part in parts[:-1]), 1.0]
    return {"edges": edges, "accuracy": [float(correct[part].mean()) for part in parts]}


def build_profile(
    *,
    labels: Sequence[str],
    inputs: FloatArray,
    measures: Mapping[str, FloatArray],
    classes: NDArray[np.int64] | None,
    confidence: FloatArray | None,
    truth: NDArray[Any] | None,
) -> dict[str, Any]:
    """The baseline profile.

    Args:
        inputs: mean and deviation of each input, float64 of shape (rows, 2).
        measures: the task's numbers by name, float64 of shape (rows,) each.
        classes: of shape (rows,); None for tasks without classes.
        confidence: of shape (rows,), 0 to 1; None where the model gives none.
        truth: integer labels of shape (rows,); None when unknown.
    """
    # The size of the numbers that each feature is computed from.
    resolution = ROUNDING * float(np.sqrt((inputs**2).sum(axis=1).max(initial=0.0)))
    confidence_counts = [0] * CONFIDENCE_BINS
    class_counts = [0] * (len(labels) + 1)
    accuracy = None
    calibration = None
    if classes is not None:
        is_known = (classes >= 0) & (classes < len(labels))
        known = np.where(is_known, classes, len(labels))
        class_counts = [int(n) for n in np.bincount(known, minlength=len(labels) + 1)]
        if truth is not None:
            accuracy = float((classes == truth).mean())
    if confidence is not None:
        confidence = np.clip(confidence, 0.0, 1.0)
        index = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        confidence_counts = [int(n) for n in np.bincount(index, minlength=CONFIDENCE_BINS)]
        if classes is not None and truth is not None:
            calibration = calibration_curve(confidence, classes == truth)
    return {
        "schema": SCHEMA,
        "n": len(inputs),
        "labels": list(labels),
        "has_classes": classes is not None,
        "has_confidence": confidence is not None,
        "confidence": {"counts": confidence_counts},
        "class": {"counts": class_counts},
        # The server's latency says nothing about a device's.
        "latency": {"gamma": LATENCY_GAMMA, "counts": {}},
        "features": [
            *(
                feature_profile(name, inputs[:, column], resolution)
                for column, name in enumerate(INPUT_FEATURES)
            ),
            *(feature_profile(name, values) for name, values in measures.items()),
        ],
        "accuracy": accuracy,
        "calibration": calibration,
    }
