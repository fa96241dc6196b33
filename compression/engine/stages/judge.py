"""What was measured against what the recipe allows."""

from dataclasses import dataclass
from typing import Any

from compression.engine.stages.measure import Measured
from compression.measure.gates import (
    Verdict,
    judge_columns,
    judge_distance,
    judge_gates,
    judge_saturation,
    judge_search,
    outcome_of,
)
from compression.recipe.passes import PASSES


@dataclass(frozen=True)
class Judged:
    """Every gate's verdict, and `passed`, `failed_gate` or `collapsed`."""

    measured: Measured
    verdicts: tuple[Verdict, ...]
    outcome: str
    search: dict[str, Any] | None


def judge(measured: Measured) -> Judged:
    """Whether the variant may be promoted."""
    recipe, figures = measured.compressed.checked.loaded.recipe, measured.figures
    notes = measured.compressed.notes
    search = next((note["facts"]["search"] for note in notes if "search" in note["facts"]), None)
    verdicts = judge_gates(recipe.gates, figures)
    narrow = judge_saturation(recipe.gates, figures, recipe.target.isa)
    if narrow is not None:
        verdicts.append(narrow)
    far = judge_distance(figures)
    # What was trained, by itself or in a search, may give other scores for the same classes.
    is_trained = search is not None or any(PASSES[step.name].trains for step in recipe.passes)
    is_named = far is not None and far.gate == "task_agreement"
    if is_named and recipe.gates.min_agreement is not None:
        # A person said how much has to agree.
        far = None
    if far is not None and not (is_trained and figures["task"] == "classification"):
        verdicts.append(far)
    constant = judge_columns(figures)
    if constant is not None:
        verdicts.append(constant)
    if search is not None:
        verdicts.append(judge_search(search))
    return Judged(measured, tuple(verdicts), outcome_of(figures, verdicts), search)
