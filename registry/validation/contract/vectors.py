"""Contracts of numbers, vectors and steps: regression, anomaly, embedding, sequence."""

import numpy as np

from registry.validation.contract.facts import GraphFacts, OutputFacts
from registry.validation.contract.findings import (
    Document,
    Hints,
    UnclearError,
    candidates,
    named,
    with_batch,
)
from registry.validation.contract.trial import are_logarithms, sums_to_one


def shows_regression(facts: GraphFacts, hints: Hints) -> bool:
    found = candidates(facts)
    return len(found) == 1 and facts.has_regressor(found[0])


def shows_anomaly(facts: GraphFacts, hints: Hints) -> bool:
    """A label of −1 or 1 beside one score, as outlier detectors give them."""
    found = candidates(facts)
    if len(found) != 2:
        return False
    labels = [o for o in found if o.is_whole]
    scores = [o for o in found if o.is_float]
    if len(labels) != 1 or len(scores) != 1 or scores[0].activation:
        return False
    values, numbers = labels[0].answer, scores[0].answer
    if values is None or numbers is None or numbers.size != values.size:
        return False
    return set(np.unique(values).tolist()) <= {-1, 1}


def shows_embedding(facts: GraphFacts, hints: Hints) -> bool:
    found = [o for o in candidates(facts) if o.is_float]
    return any(o.is_unit_vector and len(o.sizes) == 2 for o in found) and not any(
        o.is_whole or o.dtype in ("string", "map") for o in facts.outputs
    )


def propose_regression(facts: GraphFacts, hints: Hints) -> Document:
    output = _only_float(facts, hints, "values")
    axis = hints.batch_axis(output)
    document = with_batch({"form": "values", "outputs": {"values": output.name}}, axis)
    count = 1
    for place, size in enumerate(output.sizes):
        if place != axis and isinstance(size, int):
            count *= size
    return document if count <= 1 else {**document, "values": count}


def propose_anomaly(facts: GraphFacts, hints: Hints) -> Document:
    output = _only_float(facts, hints, "score")
    axis = hints.batch_axis(output)
    inner = [size for place, size in enumerate(output.sizes) if place != axis and size != 1]
    if inner and "outputs" not in hints.outputs and not hints.outputs:
        raise UnclearError(
            facts,
            f"{output.name} is not one score a row; a reconstruction needs its error in the graph",
            [{"task": "other"}, {"outputs": {"score": output.name}}],
        )
    return with_batch({"form": "score", "outputs": {"score": output.name}}, axis)


def propose_embedding(facts: GraphFacts, hints: Hints) -> Document:
    output = named(facts, hints, "vector")
    if output is None:
        found = [o for o in candidates(facts) if o.is_float]
        flat = [o for o in found if len(o.sizes) == 2]
        unit = [o for o in flat if o.is_unit_vector]
        words = ("sentence_embedding", "embedding", "pooler", "pooled", "feature")
        by_name = [o for word in words for o in flat if word in o.name.lower()]
        chosen = unit or by_name[:1] or (flat if len(flat) == 1 else [])
        if not chosen and len(found) == 1:
            chosen = found
        if len(chosen) != 1:
            raise UnclearError(
                facts,
                f"each of {[o.name for o in found]} could be the vector",
                [{"outputs": {"vector": o.name}} for o in found[:2]] or [{"task": "other"}],
            )
        output = chosen[0]
    form = "tokens" if len(output.sizes) == 3 else "vector"
    return with_batch({"form": form, "outputs": {"vector": output.name}}, hints.batch_axis(output))


def propose_sequence(facts: GraphFacts, hints: Hints) -> Document:
    """Scores [rows, steps, classes], the batch on axis 1 perhaps; texts give tags."""
    output = named(facts, hints, "scores")
    if output is None:
        found = [o for o in candidates(facts) if o.is_float and len(o.sizes) == 3]
        if len(found) != 1:
            raise UnclearError(
                facts,
                "a sequence has one output [rows, steps, classes]",
                [{"outputs": {"scores": facts.outputs[0].name}}],
            )
        output = found[0]
    is_text = any(
        item["dtype"] in ("int64", "int32") and "ids" in item["name"].lower()
        for item in facts.inputs
    )
    axis = hints.batch_axis(output)
    if axis is None and len(output.sizes) == 3 and output.sizes[1] == 1 != output.sizes[0]:
        axis = 1
    document: Document = {
        "form": hints.form or ("tags" if is_text else "ctc"),
        "outputs": {"scores": output.name},
        "activation": hints.activation or _step_activation(output),
        "blank": 0,
    }
    return with_batch(document, axis)


def _step_activation(output: OutputFacts) -> str:
    answer = output.answer
    if output.activation == "softmax" or (answer is not None and sums_to_one(answer, -1)):
        return "none"
    if output.activation == "log_softmax" or (answer is not None and are_logarithms(answer, -1)):
        return "exp"
    return "softmax"


def _only_float(facts: GraphFacts, hints: Hints, role: str) -> OutputFacts:
    output = named(facts, hints, role)
    if output is not None:
        return output
    found = [o for o in candidates(facts) if o.is_float]
    if len(found) != 1:
        raise UnclearError(
            facts,
            f"expected one output of numbers; there are {[o.name for o in found]}",
            [{"outputs": {role: o.name}} for o in found[:2]] or [{"task": "other"}],
        )
    return found[0]
