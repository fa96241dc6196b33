"""How a variant answers on each kind of INT8 kernels, whatever kind this machine has."""

from dataclasses import asdict
from typing import Any

from compression.exceptions import ModelUnsupportedError
from compression.measure.answers import Answers
from compression.measure.kernels.instruction_sets import (
    ALL_SETS,
    EXACT_SETS,
    SATURATING_SETS,
    WITHOUT_VNNI,
    require_sets,
)
from compression.measure.kernels.products import (
    find_saturating,
    has_signed_products,
    optimize_file,
    saturates_here,
    tensor_types,
)
from compression.measure.models import OpenModel
from compression.measure.samples import Samples
from compression.measure.scoring import Scoring

# Sums of 16 bits are computed here at some hundred million multiply-accumulates a second.
COMPUTED_MACS = 3 * 10**9
MIN_COMPUTED_ROWS = 64


def measure_portability(
    variant: OpenModel,
    samples: Samples,
    *,
    scoring: Scoring,
    reference: Answers,
    scores: Answers,
    macs: int | None,
    target_isa: str,
) -> dict[str, Any]:
    """`instruction_sets`, a row for each kind of kernels, and `requires_isa`.

    A row has `sets`, `is_saturating`, `is_computed` (not by this machine's own kernels), `samples`,
    `accuracy` with its interval, `accuracy_drop_points`, `agreement` and `reason`, why there are no
    figures. One row stands for all sets where no sum can saturate.

    Args:
        reference: the source's answers to all samples.
        scores: the variant's, with sums of 32 bits.
        macs: of one row of the variant; None where unknown.
        target_isa: of the recipe.
    """
    model = optimize_file(variant.path)
    types = tensor_types(model)
    can_saturate = bool(find_saturating(model, types))
    requires = require_sets(
        target_isa, can_saturate=can_saturate, is_signed=has_signed_products(model, types)
    )
    if variant.exact_fault:
        exact = _unknown_row(EXACT_SETS, variant.exact_fault, is_saturating=False)
    else:
        exact = _row(
            EXACT_SETS if can_saturate else ALL_SETS,
            samples,
            scoring,
            reference,
            scores,
            is_saturating=False,
            is_computed=can_saturate and saturates_here(),
        )
    if not can_saturate:
        return {"instruction_sets": [exact], "requires_isa": requires}
    rows = max(COMPUTED_MACS // max(macs or 1, 1), MIN_COMPUTED_ROWS)
    part = samples if saturates_here() else samples.head(rows)
    try:
        narrow = scoring.score_model(variant, part, is_saturating=True)
    except ModelUnsupportedError as error:
        saturated = _unknown_row(SATURATING_SETS, str(error), is_saturating=True)
    else:
        saturated = _row(
            SATURATING_SETS,
            part,
            scoring,
            reference.head(len(part)),
            narrow,
            is_saturating=True,
            is_computed=not saturates_here(),
        )
    return {"instruction_sets": [exact, saturated], "requires_isa": requires}


def describe_saturation(report: dict[str, Any]) -> str:
    """What saturation does to the variant, in a sentence; empty where no sum can saturate."""
    row = saturated_row(report)
    if row is None:
        return ""
    needs = " or ".join(report["requires_isa"])
    offered = f"it is offered to devices that report {needs} alone"
    exact = next(row for row in report["instruction_sets"] if not row["is_saturating"])
    if exact["reason"]:
        return (
            "All figures are of sums of 16 bits that saturate, the worker's own: "
            f"{exact['reason']} Elsewhere they may be better. So {offered}."
        )
    if row["reason"]:
        return f"On x86 with {WITHOUT_VNNI} sums may saturate: {row['reason']} So {offered}."
    figure, elsewhere, word = row["agreement"], report["variant"]["agreement"]["value"], "agree"
    if row["accuracy"] is not None:
        figure, word = row["accuracy"]["value"], "are right"
        elsewhere = report["variant"]["accuracy"]["value"]
    return (
        f"On x86 with {WITHOUT_VNNI} sums of 16 bits saturate: {100 * figure:.1f} % of "
        f"{row['samples']:,} answers {word} there, {100 * elsewhere:.1f} % elsewhere. So {offered}."
    )


def saturated_row(report: dict[str, Any]) -> dict[str, Any] | None:
    """The row of kernels that saturate; None where no sum of the variant can."""
    rows = report.get("instruction_sets") or []
    return next((row for row in rows if row["is_saturating"]), None)


def _row(
    sets: tuple[str, ...],
    samples: Samples,
    scoring: Scoring,
    reference: Answers,
    scores: Answers,
    *,
    is_saturating: bool,
    is_computed: bool,
) -> dict[str, Any]:
    accuracy = drop = None
    if samples.labels is not None and scoring.has_classes:
        accuracy = asdict(scoring.accuracy(scores, samples.labels))
        before = scoring.accuracy(reference, samples.labels).value
        drop = round(100.0 * (before - accuracy["value"]), 4)
    return {
        "sets": list(sets),
        "is_saturating": is_saturating,
        "is_computed": is_computed,
        "samples": len(samples),
        "accuracy": accuracy,
        "accuracy_drop_points": drop,
        "agreement": scoring.compare(reference, scores).value,
        "reason": "",
    }


def _unknown_row(sets: tuple[str, ...], reason: str, *, is_saturating: bool) -> dict[str, Any]:
    return {
        "sets": list(sets),
        "is_saturating": is_saturating,
        "is_computed": False,
        "samples": 0,
        "accuracy": None,
        "accuracy_drop_points": None,
        "agreement": None,
        "reason": reason,
    }
