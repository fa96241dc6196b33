"""What a model answers to all samples, and what each answer says by the model's contract. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from registry.reading.boxes import read_boxes
from registry.reading.contract import Contract
from registry.reading.measures import measure_boxes, move_classes
from registry.reading.scores import Box, activate


@dataclass(frozen=True)
class Answers:
    """The outputs that are judged, by name.

    Attributes:
        outputs: each with the rows on its first axis.
        contract: how they are read; its axes are those that the outputs have here.
        is_ragged: a call's whole output is the answer to its one row, for there is no axis of rows.
    """

    outputs: Mapping[str, NDArray]
    contract: Contract
    is_ragged: bool = False
    _kept: dict[str, NDArray] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    @property
    def flat(self) -> NDArray:
        """All of it side by side, [N, C]: classes by number; of boxes without rows their count,
        score and classes."""
        if "flat" not in self._kept:
            self._kept["flat"] = self._flatten()
        return self._kept["flat"]

    @property
    def first(self) -> NDArray:
        """The first output that the contract names."""
        name = next(iter(self.contract.outputs.values()), next(iter(self.outputs)))
        return self.outputs[name]

    def head(self, count: int) -> "Answers":
        """Those of the first `count` rows."""
        outputs = {name: value[:count] for name, value in self.outputs.items()}
        return replace(self, outputs=outputs, _kept={})

    def _flatten(self) -> NDArray:
        if self.contract.form == "label":
            return classes_of(self).reshape(-1, 1).astype(np.float64)
        if self.contract.task == "detection" and self.is_ragged:
            return np.array([measure_boxes(found or [], 0) for found in iter_boxes(self)])
        rows = [value.reshape(len(value), -1) for value in self.outputs.values()]
        return np.concatenate(rows, axis=1)


def as_rows_first(contract: Contract, axis: int | None, rank: int) -> Contract:
    """The contract for outputs whose rows were moved to the first axis.

    Args:
        axis: of the rows in the outputs as the graph gives them; None: they have none.
        rank: axes of an answer with the one of rows.
    """
    classes = contract.class_axis
    if axis is not None and classes is not None and contract.task != "detection":
        # `rank` bounds what a contract that was written for other outputs may name.
        classes = min(classes if classes > axis else classes + 1, rank - 1)
    return replace(contract, batch_axis=None if axis is None else 0, class_axis=classes)


def parts_of(answers: Answers) -> list[NDArray]:
    """The numbers that have a size of their own: each output, boxes and scores in one apart."""
    if answers.is_ragged and answers.contract.task == "detection":
        return [answers.flat]
    parts = []
    for value in answers.outputs.values():
        if answers.contract.form in ("yolo", "yolo_objectness"):
            axis = answers.contract.class_axis or value.ndim - 1
            parts += np.split(value, [4], axis=axis)
        elif value.dtype.kind == "f":
            parts.append(value)
    return parts


def classes_of(answers: Answers) -> NDArray[np.int64]:
    """The class of each row, by its column: [N]. -1 for a label that the model does not have."""
    contract, values = answers.contract, answers.first.reshape(len(answers), -1)
    if contract.form == "label":
        if not contract.classes:
            return values[:, 0].astype(np.int64)
        columns = {str(name): column for column, name in enumerate(contract.classes)}
        return np.array([columns.get(str(value), -1) for value in values[:, 0]], np.int64)
    if contract.form == "binary":
        return (chances_of(answers)[:, 0] >= contract.threshold).astype(np.int64)
    return np.nan_to_num(values, nan=-np.inf).argmax(axis=1)


def chances_of(answers: Answers) -> NDArray[np.float64]:
    """Probabilities [N, C] of classes that are judged each by itself; what is not finite is 0."""
    values = answers.first.reshape(len(answers), -1).astype(np.float64)
    chances = np.asarray(activate(values, answers.contract.activation), np.float64)
    return np.nan_to_num(chances, nan=0.0)


def segments_of(answers: Answers) -> NDArray[np.int64]:
    """The class of each pixel, [N, pixels]."""
    contract, values = answers.contract, answers.first
    if contract.form == "mask":
        return values.reshape(len(values), -1).astype(np.int64)
    if contract.form == "binary":
        return (chances_of(answers) >= contract.threshold).astype(np.int64)
    tables = (move_classes(contract, np.nan_to_num(row, nan=-np.inf)) for row in values)
    return np.array([table.argmax(axis=1) for table in tables])


def steps_of(answers: Answers) -> NDArray[np.int64]:
    """The best class of each step, [N, steps]."""
    contract = answers.contract
    tables = (move_classes(contract, np.nan_to_num(row, nan=-np.inf)) for row in answers.first)
    return np.array([table.argmax(axis=1) for table in tables])


def vectors_of(answers: Answers) -> NDArray[np.float64]:
    """The embedding of each row, [N, C]; of tokens their mean."""
    values = answers.first.astype(np.float64)
    if answers.contract.form == "tokens":
        return values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)
    return values.reshape(len(values), -1)


def iter_boxes(answers: Answers) -> Iterator[list[Box] | None]:
    """The kept boxes of each row; None where its numbers are not finite."""
    contract = answers.contract
    names = contract.outputs
    for row in range(len(answers)):
        parts = {role: answers.outputs[name] for role, name in names.items()}
        if answers.is_ragged and contract.form == "selected":
            # Only what was selected has no rows; boxes and scores are one frame of one.
            one = {role: value[row] for role, value in parts.items()}
            one |= {role: _frame(value) for role, value in one.items() if role != "selected"}
        elif answers.is_ragged:
            one = {role: value[row] for role, value in parts.items()}
        else:
            one = {role: value[row : row + 1] for role, value in parts.items()}
        yield read_boxes(contract, one, 0)


def _frame(value: NDArray) -> NDArray:
    return value if value.ndim == 3 else value[None]
