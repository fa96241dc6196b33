"""What the proposers of a contract share: hints of people, the question they may ask."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.validation.contract.facts import GraphFacts, OutputFacts
from registry.validation.contract.trial import find_batch_axis

Document = dict[str, Any]


class UnclearError(Exception):
    """The outputs can mean more than one thing; the message says what was seen and asks."""

    def __init__(
        self, facts: GraphFacts, problem: str, examples: Sequence[Mapping[str, Any]]
    ) -> None:
        shown = " or ".join(json.dumps(dict(example)) for example in examples)
        super().__init__(
            f"What the outputs mean is not clear: {problem}. Seen: {facts.describe()}. "
            f"Say it in `outputs`, for example {shown}."
        )


@dataclass(frozen=True)
class Hints:
    """What is known beside the graph."""

    labels: tuple[str, ...]
    outputs: Mapping[str, str]
    """Outputs by role that a person named."""
    form: str
    activation: str
    batch_rows: tuple[int, ...]
    has_true_classes: bool

    def batch_axis(self, output: OutputFacts) -> int | None:
        """The axis of the batch: as trials show it, else 0 for what has a dimension."""
        if output.answers and self.batch_rows:
            return find_batch_axis(output.answers, self.batch_rows)
        return 0 if output.shape else None


def candidates(facts: GraphFacts) -> list[OutputFacts]:
    """The outputs that are answers: not a state that goes back into the next call."""
    states = [(tuple(item["shape"]), item["dtype"]) for item in facts.inputs[1:] if item["shape"]]
    found = []
    for output in facts.outputs:
        if output.activation or output.classes:
            # Probabilities are no state, although there may be as many as numbers of an input.
            found.append(output)
            continue
        if (output.shape, output.dtype) in states and len(facts.outputs) > 1:
            states.remove((output.shape, output.dtype))
            continue
        if any(word in output.name.lower() for word in ("hidden_state_", "present", "staten")):
            continue
        found.append(output)
    return found or list(facts.outputs)


def named(facts: GraphFacts, hints: Hints, role: str) -> OutputFacts | None:
    """The output that a person named for a role."""
    name = hints.outputs.get(role)
    return next((output for output in facts.outputs if output.name == name), None)


def with_batch(document: Document, axis: int | None) -> Document:
    return document if axis == 0 else {**document, "batch_axis": axis}
