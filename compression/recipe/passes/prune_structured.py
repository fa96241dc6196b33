"""`prune.structured`: fewer channels."""

from collections.abc import Mapping, Sequence
from typing import Any

from compression.recipe.alignment import decide_alignment
from compression.recipe.declaration import PRODUCTS, Parameter, Pass, choice


def _complete(parameters: Mapping[str, Any], following: Sequence[Pass]) -> dict[str, Any]:
    """Writes the multiple into the recipe, so that the key of the step says what was done."""
    is_int8 = any(item.computes_int8 for item in following)
    return {**parameters, "align": parameters["align"] or decide_alignment(is_int8=is_int8)}


PASS = Pass(
    name="prune.structured",
    title="Remove whole channels, then repair their consumers",
    run="compression.engine.passes.prune:prune_structured",
    parameters={
        "ratio": Parameter("float", 0.01, 0.95, default=0.4),
        # None: decided by the passes that follow, see `compression.recipe.alignment`.
        "align": Parameter("int", 1, 64, default=None, is_nullable=True),
        "min_keep": Parameter("int", 1, 4096, default=8),
        "allocation": choice("sensitivity", "sensitivity", "uniform"),
        # From 0, parameters alone, to 1, time alone; see `compression.engine.pruning.kernels`.
        "latency_share": Parameter("float", 0.0, 1.0, default=0.25),
        "repair": Parameter("bool", default=True),
        "samples": Parameter("int", 16, 100_000, default=512),
    },
    targets=PRODUCTS,
    reads=frozenset({"calibration"}),
    usual_seconds=15.0,
    follows_branches=False,
    complete=_complete,
)
