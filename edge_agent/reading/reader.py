"""Reads a model's outputs by its contract: one row at a time, on the server as on the device."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .boxes import read_boxes
from .contract import Contract, ContractError, parse_contract
from .measures import (
    first_numbers,
    measure_boxes,
    measure_segments,
    measure_steps,
    measure_vector,
    name_measures,
)
from .scores import NON_FINITE, UNREADABLE, Array, Box, Reading, clip, rank_scores, sigmoid


class Reader:
    """How a release's outputs are read."""

    __slots__ = ("_indices", "_read", "contract", "labels", "measure_names", "top_k")

    def __init__(
        self, contract: Contract, output_names: Sequence[str], labels: Sequence[str], top_k: int
    ) -> None:
        """
        Args:
            output_names: of the session, in its order.
            labels: names by class id; a class without one goes by its number.

        Raises:
            ContractError: the contract names an output that the model does not have.
        """
        missing = sorted(set(contract.outputs.values()) - set(output_names))
        if missing:
            raise ContractError(f"The contract names {missing}; the outputs are {[*output_names]}")
        self.contract = contract
        self.labels = tuple(labels)
        self.top_k = top_k
        self.measure_names = name_measures(contract, len(self.labels))
        self._indices = {role: output_names.index(n) for role, n in contract.outputs.items()}
        # Of the class, not bound: a circle would outlive the session until the collector comes.
        own = getattr(Reader, f"_{contract.task}_{contract.form}", None)
        self._read = own or getattr(Reader, f"_{contract.task}")

    @property
    def index(self) -> int:
        """Which output holds the answer; the first where none does."""
        return next(iter(self._indices.values()), 0)

    def read(self, outputs: Sequence[Any], row: int = 0) -> Reading:
        """What the outputs say of one row of the batch.

        Raises:
            ContractError: they are not what the contract says they are.
        """
        try:
            reading: Reading = self._read(self, outputs, row)
        except ContractError:
            raise
        except (IndexError, KeyError, TypeError, ValueError) as error:
            shapes = [list(getattr(output, "shape", [len(output)])) for output in outputs]
            raise ContractError(
                f"Outputs of {shapes} are no {self.contract.task} in the form "
                f"{self.contract.form}: {error}"
            ) from error
        return reading

    def try_read(self, outputs: Sequence[Any], row: int = 0) -> Reading:
        """As `read`, with the error `unreadable` in place of an exception."""
        try:
            return self.read(outputs, row)
        except ContractError:
            return UNREADABLE

    def measures_of(self, reading: Reading) -> Mapping[str, float]:
        """The measures by name; empty where the outputs are not finite."""
        return dict(zip(self.measure_names, reading.measures, strict=False))

    def label_of(self, class_id: int) -> str:
        return self.labels[class_id] if 0 <= class_id < len(self.labels) else str(class_id)

    def _take(self, outputs: Sequence[Any], role: str, row: int) -> Array:
        """One row of the output of `role`, without its batch axis."""
        output = np.asarray(outputs[self._indices[role]])
        axis = self.contract.batch_axis
        if axis is None or output.ndim <= axis:
            return output
        return output[row] if axis == 0 else np.take(output, row, axis=axis)

    def _rank(self, hits: Sequence[tuple[int, float]]) -> Reading:
        ids = self.contract.class_ids
        if ids:
            hits = [(ids[i] if i < len(ids) else i, p) for i, p in hits]
        top = tuple((i, self.label_of(i), p) for i, p in hits)
        return Reading(top[0][0], clip(top[0][2]), top)

    def _classification_scores(self, outputs: Sequence[Any], row: int) -> Reading:
        output = outputs[self._indices["scores"]]
        if self.contract.batch_axis != 0 or output.ndim < 2:
            scores = output if output.ndim < 2 else self._take(outputs, "scores", row)
            scores = np.asarray(scores).reshape(-1)
        else:
            scores = output[row] if output.ndim == 2 else output[row].reshape(-1)
        if len(scores) == 0:
            return Reading(None, None, ())
        hits = rank_scores(scores, self.contract.activation, self.top_k)
        return NON_FINITE if hits is None else self._rank(hits)

    def _classification_binary(self, outputs: Sequence[Any], row: int) -> Reading:
        value = float(np.asarray(self._take(outputs, "scores", row)).reshape(-1)[0])
        if not np.isfinite(value):
            return NON_FINITE
        activation = self.contract.activation
        chance = sigmoid(value) if activation == "sigmoid" else value
        if activation == "exp":
            chance = float(np.exp(min(value, 0.0)))
        order = (1, 0) if chance >= self.contract.threshold else (0, 1)
        pair = [(column, chance if column else 1.0 - chance) for column in order]
        return self._rank(pair[: max(1, self.top_k)])

    def _classification_multi_label(self, outputs: Sequence[Any], row: int) -> Reading:
        scores = self._take(outputs, "scores", row).reshape(-1)
        hits = rank_scores(scores, self.contract.activation, len(scores))
        if hits is None:
            return NON_FINITE
        positives = sum(chance >= self.contract.threshold for _, chance in hits)
        found = self._rank(hits[: max(1, self.top_k, positives)])
        return Reading(found.class_id, found.confidence, found.top_k, "", (float(positives),))

    def _classification_map(self, outputs: Sequence[Any], row: int) -> Reading:
        """Of a sequence of maps the row's, of a lone map itself."""
        output = outputs[self._indices["scores"]]
        found: Mapping[Any, float] = output if isinstance(output, Mapping) else output[row]
        classes = self.contract.classes or sorted(found)
        missing = [key for key in classes if key not in found]
        if missing or not found:
            raise ContractError(f"The map lacks the classes {missing[:5]}; it has {[*found][:5]}")
        scores = np.array([found[key] for key in classes], dtype=np.float64)
        hits = rank_scores(scores, self.contract.activation, self.top_k)
        return NON_FINITE if hits is None else self._rank(hits)

    def _classification_label(self, outputs: Sequence[Any], row: int) -> Reading:
        value = self._take(outputs, "label", row).reshape(-1)[0]
        key = value.decode() if isinstance(value, bytes) else value
        key = key if isinstance(key, str) else int(key)
        classes = self.contract.classes
        if classes and key not in classes:
            raise ContractError(f"The label {key!r} is none of the classes {list(classes)[:10]}")
        column = classes.index(key) if classes else int(key)
        ids = self.contract.class_ids
        number = ids[column] if column < len(ids) else column
        return Reading(number, None, ((number, self.label_of(number), 1.0),))

    def _numbers(self, values: list[float] | None, boxes: Sequence[Box] = ()) -> Reading:
        if values is None:
            return NON_FINITE
        return Reading(None, None, (), "", tuple(values), tuple(boxes))

    def _regression(self, outputs: Sequence[Any], row: int) -> Reading:
        return self._numbers(first_numbers(self.contract, self._take(outputs, "values", row)))

    def _detection(self, outputs: Sequence[Any], row: int) -> Reading:
        parts = {role: np.asarray(outputs[index]) for role, index in self._indices.items()}
        found = read_boxes(self.contract, parts, row)
        if found is None:
            return NON_FINITE
        boxes = [Box(b.class_id, self.label_of(b.class_id), b.score, b.corners) for b in found]
        return self._numbers(measure_boxes(boxes, len(self.labels)), boxes)

    def _segmentation(self, outputs: Sequence[Any], row: int) -> Reading:
        role = "mask" if self.contract.form == "mask" else "scores"
        frame = self._take(outputs, role, row)
        return self._numbers(measure_segments(self.contract, frame, len(self.labels)))

    def _embedding(self, outputs: Sequence[Any], row: int) -> Reading:
        vector = self._take(outputs, "vector", row)
        if self.contract.form == "tokens":
            vector = vector.reshape(-1, vector.shape[-1]).astype(np.float64).mean(axis=0)
        return self._numbers(measure_vector(self.contract, vector))

    def _sequence(self, outputs: Sequence[Any], row: int) -> Reading:
        return self._numbers(measure_steps(self.contract, self._take(outputs, "scores", row)))

    def _anomaly(self, outputs: Sequence[Any], row: int) -> Reading:
        return self._numbers(first_numbers(self.contract, self._take(outputs, "score", row)))

    def _other(self, outputs: Sequence[Any], row: int) -> Reading:
        for output in outputs:
            is_float = isinstance(output, np.ndarray) and output.dtype.kind == "f"
            if is_float and not np.isfinite(output).all():
                return NON_FINITE
        return Reading(None, None, ())


def contract_of(document: Mapping[str, Any], output_names: Sequence[str]) -> Contract:
    """The contract of a manifest; of one from before there were any, what was done then.

    Raises:
        ContractError: it has one that is none.
    """
    if document.get("contract") is not None:
        return parse_contract(document["contract"])
    post = document.get("postprocessing") or {}
    named = post.get("scores_output")
    scores = str(named) if named in output_names else output_names[0]
    activation = str(post.get("activation", "softmax"))
    return Contract("classification", "scores", {"scores": scores}, activation)
