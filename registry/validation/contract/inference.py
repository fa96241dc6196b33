"""Decides what a model's outputs mean from what is seen, or says what it saw and asks.

Nothing is guessed: a rule here rests on an operator that has one meaning, on numbers that can have
one, on the shape and the label map together, or on what a person said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.reading.contract import FORMS, Contract, ContractError, parse_contract
from registry.validation.contract import classes, spatial, vectors
from registry.validation.contract.facts import GraphFacts
from registry.validation.contract.findings import Document, Hints, UnclearError
from registry.validation.rules import RuleError

__all__ = ["UnclearError", "infer_contract"]


def infer_contract(
    facts: GraphFacts,
    *,
    task: str,
    is_task_open: bool,
    labels: Sequence[str],
    given: Mapping[str, Any],
    batch_rows: Sequence[int],
    has_true_classes: bool = False,
) -> Contract:
    """The contract.

    Args:
        facts: what the graph and trial runs show.
        task: what the model was created for.
        is_task_open: nobody has said so yet: it has no labels and no version that runs.
        given: fields of a contract that a person named; they hold, and the rest is inferred.
        batch_rows: rows of each trial whose answers are in `facts`.
        has_true_classes: the data set has one integer label a row.

    Raises:
        UnclearError: what is seen allows more than one reading.
        RuleError: what was given does not fit the graph.
    """
    hints = Hints(
        labels=tuple(labels),
        outputs=_named_outputs(given),
        form=str(given.get("form", "")),
        activation=str(given.get("activation", "")),
        batch_rows=tuple(batch_rows),
        has_true_classes=has_true_classes,
    )
    wanted = str(given.get("task", ""))
    if not wanted:
        wanted = _settle_task(facts, hints, task, is_task_open)
    if wanted not in FORMS:
        raise RuleError(f"task is one of {', '.join(FORMS)}; got {wanted!r}")
    document = _propose(facts, hints, wanted, given)
    try:
        contract = parse_contract({**document, **given, "task": wanted})
    except ContractError as error:
        raise RuleError(f"outputs: {error}") from error
    names = [output.name for output in facts.outputs]
    missing = sorted(set(contract.outputs.values()) - set(names))
    if missing:
        raise RuleError(f"outputs names {missing}; the outputs of the graph are {names}")
    return contract


def _propose(facts: GraphFacts, hints: Hints, task: str, given: Mapping[str, Any]) -> Document:
    is_whole = "form" in given and (
        "outputs" in given or not FORMS[task].get(str(given["form"]), ("?",))
    )
    try:
        return _PROPOSERS[task](facts, hints)
    except UnclearError:
        if is_whole:
            return {}  # a person said all of it
        raise


def _settle_task(facts: GraphFacts, hints: Hints, task: str, is_open: bool) -> str:
    """The model's task, unless the graph can only be of another one.

    Raises:
        UnclearError: the graph shows another task, and the model has labels or versions already.
    """
    if task != "classification":
        return task
    shown = _shown_task(facts, hints)
    if not shown or shown == task:
        return task
    if is_open:
        return shown
    raise UnclearError(
        facts,
        f"the model is for {task}, but the graph looks like {shown}",
        [{"task": shown}],
    )


def _shown_task(facts: GraphFacts, hints: Hints) -> str:
    for task, shows in (
        ("anomaly", vectors.shows_anomaly),
        ("regression", vectors.shows_regression),
        ("detection", spatial.shows_detection),
        ("segmentation", spatial.shows_segmentation),
        ("embedding", vectors.shows_embedding),
    ):
        if shows(facts, hints):
            return task
    return ""


def _other(facts: GraphFacts, hints: Hints) -> Document:
    return {"form": "none", "outputs": {}}


def _named_outputs(given: Mapping[str, Any]) -> Mapping[str, str]:
    found = given.get("outputs", {})
    return found if isinstance(found, Mapping) else {}


_PROPOSERS = {
    "classification": classes.propose_classification,
    "regression": vectors.propose_regression,
    "detection": spatial.propose_detection,
    "segmentation": spatial.propose_segmentation,
    "embedding": vectors.propose_embedding,
    "sequence": vectors.propose_sequence,
    "anomaly": vectors.propose_anomaly,
    "other": _other,
}
