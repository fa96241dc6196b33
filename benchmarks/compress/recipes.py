"""What is done to the models: the product's presets, and recipes that take them apart."""

from typing import Any

from compression.recipe.passes import PASSES
from compression.recipe.presets import get_preset

Passes = list[dict[str, Any]]

PREPARE: dict[str, Any] = {"pass": "prepare"}
PRUNE: dict[str, Any] = {"pass": "prune.structured", "ratio": 0.4}
STATIC: dict[str, Any] = {"pass": "quantize.static"}
RANDOM_ROWS = 1000
# The whole benchmark is to end within a quarter of an hour on two cores.
TRAINING_SECONDS = {"finetune.kd": 120, "distill.student": 160}
# Smaller than the preset's student, which loses next to nothing.
STUDENT_RATIO = 20


def preset(slug: str) -> Passes:
    """The passes of a preset of the product."""
    return list(get_preset(slug).recipe["passes"])


def trained_recipes() -> dict[str, Passes]:
    """Variants of the models whose accuracy means something, by name, the asked-for ones first."""
    return {
        "static-int8": preset("static-int8"),
        "prune40-int8": preset("prune40-int8"),
        "dynamic-int8": preset("dynamic-int8"),
        "w8": [PREPARE, {"pass": "quantize.weights", "bits": 8}],
        "fp16": preset("fp16"),
        "mixed": preset("mixed"),
        "prune40-raw": [PREPARE, {**PRUNE, "repair": False}],
        "prune40": [PREPARE, PRUNE],
        "prune40-unaligned": [PREPARE, {**PRUNE, "align": 1}],
        "prune40-unaligned-int8": [PREPARE, {**PRUNE, "align": 1}, STATIC],
    }


def training_recipes() -> dict[str, Passes]:
    """Variants that train, which takes minutes: the presets, ended after `TRAINING_SECONDS`."""
    smaller = {"distill.student": {"ratio": STUDENT_RATIO}}
    return {
        name: [
            {**step, **smaller.get(step["pass"], {}), "seconds": TRAINING_SECONDS[step["pass"]]}
            if PASSES[step["pass"]].trains
            else step
            for step in preset(name)
        ]
        for name in ("distilled-pruned-int8", "prune40-kd-int8")
    }


def demo_recipes() -> dict[str, Passes]:
    """The presets as they are, on a model small enough for all of them to take seconds."""
    names = (
        "static-int8",
        "prune40-int8",
        "prune40-kd-int8",
        "distilled-int8",
        "distilled-pruned-int8",
        "mixed",
    )
    return {name: preset(name) for name in names}


def random_recipes() -> dict[str, Passes]:
    """Variants of the models of random weights: no figure of theirs depends on the data."""
    prune = {**PRUNE, "allocation": "uniform", "repair": False, "samples": 16}
    return {
        "static-int8": preset("static-int8"),
        "prune40-int8": [PREPARE, prune, STATIC],
        "prune40-raw": [PREPARE, prune],
        "prune40-unaligned-raw": [PREPARE, {**prune, "align": 1}],
        "prune40-unaligned-int8": [PREPARE, {**prune, "align": 1}, STATIC],
    }
