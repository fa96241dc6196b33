"""The order as values, and what its source says of itself without being run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.recipe.facts import GraphFacts
from compression.recipe.graph_facts import read_facts
from compression.recipe.recipe import Recipe, parse_recipe


@dataclass(frozen=True)
class Loaded:
    """What is to be done, to which files.

    Attributes:
        done: the passes a cache already had, each with its `file`, where one is needed, and notes.
        registered_accuracy: what the source was registered with on this very evaluation set.
    """

    recipe: Recipe
    scratch: Path
    source: Path
    facts: GraphFacts
    calibration: Path | None
    evaluation: Path
    done: tuple[Mapping[str, Any], ...]
    task: str
    scores_output: str | None
    registered_accuracy: float | None


def load(order: Mapping[str, Any], scratch: Path) -> Loaded:
    """The order's recipe, and its files inside `scratch`.

    Raises:
        RecipeInvalidError, ModelUnsupportedError: the source is no ONNX model.
    """
    source = scratch / order["source"]
    calibration = order.get("calibration")
    return Loaded(
        recipe=parse_recipe(order["recipe"]),
        scratch=scratch,
        source=source,
        facts=read_facts(source),
        calibration=scratch / calibration if calibration else None,
        evaluation=scratch / order["evaluation"],
        done=tuple(order["done"]),
        task=order.get("task", "classification"),
        scores_output=order.get("scores_output"),
        registered_accuracy=order.get("registered_accuracy"),
    )
