"""Contracts of classifiers: scores, one score, several labels, maps, labels alone."""

from typing import Any

import numpy as np

from registry.validation.contract.facts import LINEAR, GraphFacts, OutputFacts
from registry.validation.contract.findings import (
    Document,
    Hints,
    UnclearError,
    candidates,
    named,
    with_batch,
)
from registry.validation.contract.trial import are_logarithms, lie_within_one, sums_to_one
from registry.validation.rules import RuleError

_EXAMPLES: tuple[dict[str, Any], ...] = (
    {"task": "regression"},
    {"form": "scores", "activation": "softmax"},
)


def propose_classification(facts: GraphFacts, hints: Hints) -> Document:
    """What a classifier's outputs are. Raises UnclearError, or RuleError: labels do not fit."""
    scores, label = _choose(facts, hints)
    if scores is None:
        assert label is not None
        return _label_alone(label, hints, facts)
    names = scores.classes or (label.classes if label is not None else ())
    document = _read_scores(facts, hints, scores, label)
    if document["form"] == "label":
        assert label is not None
        return {**document, **_name_classes(names, len(names) or None, hints)}
    count = _count_classes(scores, names, hints)
    if document["form"] == "binary":
        count = 2
    return {**document, **_name_classes(names, count, hints)}


def _choose(facts: GraphFacts, hints: Hints) -> tuple[OutputFacts | None, OutputFacts | None]:
    """The output with scores and the one with the class, each None where there is none."""
    wanted = named(facts, hints, "scores")
    label_wanted = named(facts, hints, "label")
    found = candidates(facts)
    labels = [o for o in found if (o.is_whole or o.dtype == "string") and _is_one_a_row(o, hints)]
    if wanted is not None:
        return wanted, labels[0] if len(labels) == 1 else None
    if label_wanted is not None:
        return None, label_wanted
    scores = [o for o in found if o.is_float or o.dtype == "map"]
    if len(scores) > 1 and hints.labels:
        fitting = [o for o in scores if _columns(o, hints) == len(hints.labels)]
        scores = fitting if len(fitting) == 1 else scores
    if len(scores) > 1:
        sure = [o for o in scores if o.activation in ("softmax", "sigmoid") or o.dtype == "map"]
        scores = sure if len(sure) == 1 else scores
    if len(scores) > 1:
        names = [o.name for o in scores]
        raise UnclearError(
            facts,
            f"each of {names} could hold the scores",
            [{"outputs": {"scores": names[0]}}],
        )
    if not scores and len(labels) != 1:
        raise UnclearError(facts, "no output has scores, and none has one class a row", _EXAMPLES)
    return scores[0] if scores else None, labels[0] if len(labels) == 1 else None


def _is_one_a_row(output: OutputFacts, hints: Hints) -> bool:
    return _columns(output, hints) == 1 and len(output.sizes) <= 2


def _columns(output: OutputFacts, hints: Hints) -> int | None:
    """Numbers a row; None where it cannot be told."""
    sizes = list(output.sizes)
    axis = hints.batch_axis(output)
    if axis is not None and axis < len(sizes):
        del sizes[axis]
    count = 1
    for size in sizes:
        if not isinstance(size, int):
            return None
        count *= size
    return count


def _read_scores(
    facts: GraphFacts, hints: Hints, scores: OutputFacts, label: OutputFacts | None
) -> Document:
    axis = hints.batch_axis(scores)
    document = with_batch({"form": "scores", "outputs": {"scores": scores.name}}, axis)
    if scores.dtype == "map":
        # Maps are an entry a row, whatever the graph's other outputs look like.
        return {"form": "map", "outputs": {"scores": scores.name}}
    columns = _columns(scores, hints)
    _refuse_spatial(facts, hints, scores)
    if columns == 1:
        return {**document, **_one_score(facts, hints, scores, label)}
    if label is not None and label.producer == "Binarizer":
        return {**document, "form": "multi_label"}
    if hints.form == "multi_label" or _has_flags(facts, columns):
        answer = scores.answer
        is_chance = scores.activation == "sigmoid" or (
            answer is not None and lie_within_one(answer)
        )
        activation = hints.activation or ("none" if is_chance else "sigmoid")
        return {**document, "form": "multi_label", "activation": activation}
    return {**document, **_many_scores(facts, hints, scores, label)}


def _has_flags(facts: GraphFacts, columns: int | None) -> bool:
    """Whether 0 or 1 stands for each column beside the scores, as scikit-learn names several."""
    return any(
        output.is_whole
        and len(output.sizes) == 2
        and output.sizes[1] == columns
        and output.answer is not None
        and set(np.unique(output.answer).tolist()) <= {0, 1}
        for output in candidates(facts)
    )


def _many_scores(
    facts: GraphFacts, hints: Hints, scores: OutputFacts, label: OutputFacts | None
) -> Document:
    if hints.activation:
        return {"activation": hints.activation}
    answer, axis = scores.answer, -1
    if scores.activation == "softmax" or (answer is not None and sums_to_one(answer, axis)):
        return {"activation": "none"}
    if scores.activation == "log_softmax" or (answer is not None and are_logarithms(answer, axis)):
        return {"activation": "exp"}
    if label is not None:
        # The model names the class itself, and what stands beside it are no probabilities.
        return {"form": "label", "outputs": {"label": label.name}}
    if scores.activation == "sigmoid":
        if hints.form == "scores" or hints.has_true_classes:
            return {"activation": "none"}  # one class a row, each judged by itself
        return {"form": "multi_label", "activation": "none"}
    count = _columns(scores, hints)
    is_known = hints.has_true_classes or hints.form == "scores" or bool(scores.classes)
    if hints.labels and (count is None or count == len(hints.labels)):
        is_known = True
    if hints.labels and count is not None and count != len(hints.labels):
        raise RuleError(f"The model has {count} classes; its label map has {len(hints.labels)}")
    if is_known and scores.producer in {*LINEAR, "", "GlobalAveragePool", "Relu", "Mul", "Div"}:
        if answer is not None and lie_within_one(answer) and scores.producer not in LINEAR:
            raise UnclearError(
                facts, f"{scores.name} lies within 0 and 1 but does not sum to 1", _EXAMPLES
            )
        return {"activation": "softmax"}
    problem = (
        f"{scores.name} could be scores of classes before a softmax, an embedding, or several "
        "values; no label map of its width, no true classes and no operator tell which"
        if not is_known
        else f"{scores.name} ends in {scores.producer}, which is neither a score nor a probability"
    )
    raise UnclearError(facts, problem, [*_EXAMPLES, {"task": "embedding"}])


def _one_score(
    facts: GraphFacts, hints: Hints, scores: OutputFacts, label: OutputFacts | None
) -> Document:
    if hints.activation:
        return {"form": "binary", "activation": hints.activation}
    if scores.activation == "sigmoid":
        return {"form": "binary", "activation": "none"}
    if scores.activation in ("softmax", "log_softmax"):
        raise UnclearError(facts, "a softmax over one score is always 1", [{"form": "binary"}])
    if label is not None:
        return {"form": "label", "outputs": {"label": label.name}}
    is_two = len(hints.labels) == 2 or hints.form == "binary"
    if is_two and scores.producer in LINEAR:
        return {"form": "binary", "activation": "sigmoid"}
    raise UnclearError(
        facts,
        f"{scores.name} is one number a row: a probability, a score before a sigmoid, or a value",
        [{"form": "binary", "activation": "sigmoid"}, {"task": "regression"}],
    )


def _refuse_spatial(facts: GraphFacts, hints: Hints, scores: OutputFacts) -> None:
    sizes = scores.sizes
    inner = [size for size in sizes[1:] if size != 1]
    if len(inner) > 1 and not hints.form:
        raise UnclearError(
            facts,
            f"{scores.name} has {len(sizes)} dimensions, more than one score a class and row",
            [{"task": "segmentation"}, {"task": "detection"}, {"task": "sequence"}],
        )


def _label_alone(label: OutputFacts, hints: Hints, facts: GraphFacts) -> Document:
    if label.dtype == "string" and not label.classes and not hints.labels:
        raise UnclearError(
            facts,
            f"{label.name} holds texts, and nothing says which there are",
            [{"classes": ["cat", "dog"]}],
        )
    document = with_batch(
        {"form": "label", "outputs": {"label": label.name}}, hints.batch_axis(label)
    )
    names = label.classes
    if label.dtype == "string" and not names:
        names = hints.labels
    return {**document, **_name_classes(names, len(names) or None, hints)}


def _count_classes(scores: OutputFacts, names: tuple[str | int, ...], hints: Hints) -> int | None:
    if scores.dtype == "map":
        return len(names) or None
    return _columns(scores, hints)


def _name_classes(names: tuple[str | int, ...], count: int | None, hints: Hints) -> Document:
    """`classes` where the model does not simply count, and their places in the label map."""
    labels = hints.labels
    if labels and count is not None and len(labels) != count:
        raise RuleError(f"The model has {count} classes; its label map has {len(labels)}")
    if not names or (count is not None and len(names) != count):
        return {}
    if list(names) == list(range(len(names))):
        return {}
    document: Document = {"classes": list(names)}
    texts = [str(name) for name in names]
    if labels and texts != list(labels) and sorted(texts) == sorted(labels):
        document["class_ids"] = [labels.index(text) for text in texts]
    return document
