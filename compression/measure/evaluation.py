"""What a variant costs and gains against the FP32 model it came from."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.engine.graph.structure import describe_file, describe_graph
from compression.measure import statistics
from compression.measure.latency import measure_latency
from compression.measure.models import OpenModel
from compression.measure.portability import measure_portability
from compression.measure.samples import Samples
from compression.measure.scoring import Scoring, join_answers
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
        scoring: what of the answers is judged; None takes the first output's scores.
    """
    scoring = scoring or Scoring()
    expected, answers = scoring.answer(original, samples), scoring.answer(variant, samples)
    reference, scores = join_answers(expected), join_answers(answers)
    speed = measure_latency(
        {"fp32": original, "variant": variant},
        samples.head(target.batch),
        threads=target.threads,
        batch=target.batch,
    )
    left = describe_model(original.path, reference, samples) | {"latency": speed["fp32"]}
    right = describe_model(variant.path, scores, samples) | {"latency": speed["variant"]}
    right |= _compare(reference, scores, scoring)
    right["collapsed_columns"] = [
        f"{name}{place}"
        for name, value in expected.items()
        for place in statistics.collapsed_columns(value, answers[name])
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
        "agreement_rule": scoring.agreement_rule,
        "accuracy_drop_points": None,
    }
    if left["accuracy"] and right["accuracy"]:
        drop = left["accuracy"]["value"] - right["accuracy"]["value"]
        report["accuracy_drop_points"] = round(100.0 * drop, 4)
    return report


def describe_model(path: Path, scores: NDArray, samples: Samples) -> dict[str, Any]:
    """Size, structure and accuracy of one model; accuracy is None without labels."""
    accuracy = None
    if samples.labels is not None and scores.shape[1] > 1:
        accuracy = asdict(statistics.accuracy_of(scores, samples.labels))
    return {
        **describe_file(path),
        **describe_graph(path),
        "accuracy": accuracy,
        "collapse_flags": statistics.collapse_flags(scores),
    }


def measure_accuracy(model: OpenModel, samples: Samples, scoring: Scoring) -> float:
    """The share of labelled samples that a model gets right."""
    assert samples.labels is not None
    return statistics.accuracy_of(scoring.score_model(model, samples), samples.labels).value


def _compare(reference: NDArray, scores: NDArray, scoring: Scoring) -> dict[str, Any]:
    divergence = statistics.mean_divergence(reference, scores)
    is_finite = bool(np.isfinite(scores).all())
    return {
        "agreement": asdict(scoring.compare(reference, scores)),
        "divergence_nats": divergence if np.isfinite(divergence) else None,
        "relative_error": statistics.relative_error(reference, scores) if is_finite else None,
    }
