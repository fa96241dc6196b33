"""The result beside its source: size, answers and latency."""

import time
from dataclasses import dataclass
from typing import Any

from compression.engine.stages.passes import Compressed, Emit
from compression.measure.evaluation import evaluate_variant
from compression.measure.models import OpenModel


@dataclass(frozen=True)
class Measured:
    """The figures of source and variant on the evaluation set."""

    compressed: Compressed
    figures: dict[str, Any]
    seconds: float


def measure(compressed: Compressed, emit: Emit) -> Measured:
    """What the variant costs and gains."""
    checked = compressed.checked
    recipe = checked.loaded.recipe
    emit("step", index=len(recipe.passes), name="evaluate", state="started")
    started = time.monotonic()
    figures = evaluate_variant(
        checked.original,
        OpenModel(compressed.path, recipe.limits.threads),
        checked.evaluation,
        target=recipe.target,
        scoring=checked.scoring,
    )
    return Measured(compressed, figures, time.monotonic() - started)
