"""Boxes out of the heads of detectors: thresholds, overlap, and one list per frame."""

from typing import Any

import numpy as np

from .contract import Contract
from .scores import Box, activate

Array = np.ndarray[Any, Any]
CANDIDATES = 300
"""Boxes above the threshold that are compared with each other, the best first."""


def read_boxes(contract: Contract, parts: dict[str, Array], row: int) -> list[Box] | None:
    """The kept boxes of frame `row`, best first; None when one of its numbers is not finite.

    Args:
        parts: the outputs by role, with their batch axis as the contract has it.
    """
    found = _CANDIDATES[contract.form](contract, parts, row)
    if found is None:
        return None
    corners, scores, classes = found
    keep = scores >= contract.threshold
    if not (np.isfinite(scores).all() and np.isfinite(corners[keep]).all()):
        return None
    corners, scores, classes = corners[keep], scores[keep], classes[keep]
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    corners, scores, classes = corners[order], scores[order], classes[order]
    if contract.form in ("yolo", "yolo_objectness"):
        # The other heads have been through non-maximum suppression in the graph.
        kept = suppress(corners, classes, contract.overlap)
        corners, scores, classes = corners[kept], scores[kept], classes[kept]
    ids = contract.class_ids
    return [
        Box(ids[number] if number < len(ids) else number, "", float(score), _corners(place))
        for number, score, place in zip(classes.tolist(), scores, corners.tolist(), strict=True)
    ]


def suppress(corners: Array, classes: Array, overlap: float) -> list[int]:
    """Which boxes stay, best first: greedy non-maximum suppression within each class.

    Args:
        corners: float of shape (boxes, 4), sorted by falling score.
        overlap: intersection over union above which the lower one falls out.
    """
    x1, y1, x2, y2 = corners.astype(np.float64).T
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    alive = np.ones(len(corners), dtype=bool)
    kept = []
    for index in range(len(corners)):
        if not alive[index]:
            continue
        kept.append(index)
        width = np.minimum(x2, x2[index]) - np.maximum(x1, x1[index])
        height = np.minimum(y2, y2[index]) - np.maximum(y1, y1[index])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        union = np.maximum(areas + areas[index] - shared, 1e-12)
        alive &= ~((shared / union > overlap) & (classes == classes[index]))
    return kept


def _corners(place: list[float]) -> tuple[float, float, float, float]:
    return (place[0], place[1], place[2], place[3])


Candidates = tuple[Array, Array, Array]


def _yolo(contract: Contract, parts: dict[str, Array], row: int) -> Candidates | None:
    """Rows of `x, y, width, height` and scores; the axis of these fields may come first."""
    raw = _frame(parts["boxes"], row, contract).astype(np.float64)
    table = raw.reshape(raw.shape[-2:]) if raw.ndim >= 2 else raw.reshape(1, -1)
    if contract.class_axis is not None and contract.class_axis == parts["boxes"].ndim - 2:
        table = table.T
    first = 5 if contract.form == "yolo_objectness" else 4
    chances = activate(table[:, first:], contract.activation)
    if contract.form == "yolo_objectness":
        objectness = activate(table[:, 4:5], contract.activation)
        chances = chances * objectness if chances.shape[1] else objectness
    middle, half = table[:, :2], table[:, 2:4] / 2
    corners = np.concatenate([middle - half, middle + half], axis=1)
    return corners, chances.max(axis=1), chances.argmax(axis=1)


def _rows(contract: Contract, parts: dict[str, Array], row: int) -> Candidates | None:
    table = _frame(parts["boxes"], row, contract).astype(np.float64).reshape(-1, 6)
    return table[:, :4], table[:, 4], _whole(table[:, 5])


def _batch_rows(contract: Contract, parts: dict[str, Array], row: int) -> Candidates | None:
    table = parts["boxes"].astype(np.float64).reshape(-1, 7)
    table = table[table[:, 0] == row]
    return table[:, 1:5], table[:, 6], _whole(table[:, 5])


def _apart(contract: Contract, parts: dict[str, Array], row: int) -> Candidates | None:
    corners = _frame(parts["boxes"], row, contract).astype(np.float64).reshape(-1, 4)
    scores = _frame(parts["scores"], row, contract).astype(np.float64)
    if "classes" in parts:
        classes = _whole(_frame(parts["classes"], row, contract).reshape(-1))
        scores = scores.reshape(-1)
    else:
        # One score a class: rows are boxes, or columns where the contract says so.
        table = scores.reshape(scores.shape[-2:])
        if contract.class_axis is not None and contract.class_axis == parts["scores"].ndim - 2:
            table = table.T
        chances = np.array(activate(table, contract.activation))
        if contract.blank is not None:
            chances[:, contract.blank] = 0.0  # the background
        scores, classes = chances.max(axis=1), chances.argmax(axis=1)
    if "count" in parts:
        count = int(np.asarray(parts["count"]).reshape(-1)[row])
        corners, scores, classes = corners[:count], scores[:count], classes[:count]
    return corners, scores, classes


def _selected(contract: Contract, parts: dict[str, Array], row: int) -> Candidates | None:
    """`[image, class, box]` rows into boxes [images, boxes, 4], scores [images, classes, boxes]."""
    chosen = parts["selected"].astype(np.int64).reshape(-1, 3)
    chosen = chosen[chosen[:, 0] == row]
    corners = parts["boxes"][row, chosen[:, 2]].astype(np.float64)
    scores = parts["scores"][row, chosen[:, 1], chosen[:, 2]].astype(np.float64)
    return corners, scores, chosen[:, 1]


_CANDIDATES = {
    "yolo": _yolo,
    "yolo_objectness": _yolo,
    "rows": _rows,
    "batch_rows": _batch_rows,
    "boxes": _apart,
    "selected": _selected,
}


def _frame(output: Array, row: int, contract: Contract) -> Array:
    axis = contract.batch_axis
    return output if axis is None or output.ndim <= axis else np.take(output, row, axis=axis)


def _whole(values: Array) -> Array:
    """Class numbers, which some heads give as floats; what is not finite is no class."""
    return np.nan_to_num(np.asarray(values, dtype=np.float64), nan=-1.0).astype(np.int64)
