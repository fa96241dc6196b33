"""What a variant costs and gains against the FP32 model it came from."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from compression.engine.graph.structure import describe_file, describe_graph
from compression.measure import statistics
from compression.measure.answers import Answers, classes_of
from compression.measure.latency import measure_latency
from compression.measure.models import OpenModel
from compression.measure.portability import measure_portability
from compression.measure.samples import Samples
from compression.measure.scoring import Scoring
from compression.recipe.recipe import Target


def evaluate_variant(
    original: OpenModel,
    variant: OpenModel,
    samples: Samples,
    *,
    target: Target,
    scoring: Scoring | None = None,
) -> dict[str, Any]:
    """The measured half of a report: both models on the same samples, and the differences.

    Args:
        original: the FP32 model, the control of every comparison.
        variant: the model that is judged.
        samples: the whole evaluation set, labels optional.
        target: threads and batch for latency.
        scoring: how answers are judged; None takes the first output for scores of classes.
    """
    scoring = scoring or Scoring()
    reference, scores = (scoring.score_model(model, samples) for model in (original, variant))
    speed = measure_latency(
        {"fp32": original, "variant": variant},
        samples.head(target.batch),
        threads=target.threads,
        batch=target.batch,
    )
    left = describe_model(original.path, reference, samples, scoring) | {"latency": speed["fp32"]}
    right = describe_model(variant.path, scores, samples, scoring) | {"latency": speed["variant"]}
    right |= _compare(reference, scores, scoring)
    right["collapse_flags"] = scoring.collapse_flags(reference, scores)
    right["collapsed_columns"] = [
        f"{name}{place}"
        for name, value in reference.outputs.items()
        for place in statistics.collapsed_columns(value, scores.outputs[name])
    ]
    report: dict[str, Any] = {
        **measure_portability(
            variant,
            samples,
            scoring=scoring,
            reference=reference,
            scores=scores,
            macs=right["macs"],
            target_isa=target.isa,
        ),
        "source": left,
        "variant": right,
        "ratio": round(left["bytes"] / right["bytes"], 3),
        "speedup": round(speed["fp32"]["p50_ms"] / max(speed["variant"]["p50_ms"], 1e-6), 3),
        "has_labels": samples.labels is not None,
        "samples": len(samples),
        "task": scoring.contract.task,
        "agreement_rule": scoring.agreement_rule,
        "accuracy_drop_points": None,
    }
    if left["accuracy"] and right["accuracy"]:
        drop = left["accuracy"]["value"] - right["accuracy"]["value"]
        report["accuracy_drop_points"] = round(100.0 * drop, 4)
    return report


def describe_model(
    path: Path, answers: Answers, samples: Samples, scoring: Scoring
) -> dict[str, Any]:
    """Size, structure and accuracy of one model; accuracy and F1 are None without labels."""
    accuracy = f1 = None
    if samples.labels is not None and scoring.has_classes:
        accuracy = asdict(scoring.accuracy(answers, samples.labels))
        f1 = statistics.macro_f1(classes_of(answers), samples.labels)
    return {
        **describe_file(path),
        **describe_graph(path),
        "accuracy": accuracy,
        "macro_f1": f1,
        "collapse_flags": statistics.collapse_flags(answers.flat),
    }


def measure_accuracy(model: OpenModel, samples: Samples, scoring: Scoring) -> float:
    """The share of labelled samples that a model gets right."""
    assert samples.labels is not None
    return scoring.accuracy(scoring.score_model(model, samples), samples.labels).value


def _compare(reference: Answers, answers: Answers, scoring: Scoring) -> dict[str, Any]:
    agreement, figures = scoring.compare_fully(reference, answers)
    divergence = scoring.divergence(reference, answers) if scoring.is_classifier else None
    return {
        "agreement": asdict(agreement),
        "task_figures": figures,
        "divergence_nats": divergence if divergence is None or np.isfinite(divergence) else None,
        "relative_error": scoring.relative_error(reference, answers),
    }
