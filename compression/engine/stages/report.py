"""The report that is stored with a job."""

import platform
from typing import Any

from compression.engine.stages.judge import Judged
from compression.engine.stages.load import Loaded
from compression.measure.advantage import describe_advantage
from compression.measure.gates import has_judged_answers, verdicts_to_json
from compression.measure.portability import describe_saturation
from compression.recipe.provenance import (
    code_identities,
    cpu_flags,
    cpu_model,
    digest_json,
    library_versions,
)

ADVISED_CALIBRATION = 1000


def write_report(judged: Judged) -> dict[str, Any]:
    """Figures, verdicts, warnings and provenance as one JSON object."""
    measured = judged.measured
    compressed = measured.compressed
    checked = compressed.checked
    loaded = checked.loaded
    return {
        **measured.figures,
        "schema": "compression-report/1",
        "gates": verdicts_to_json(list(judged.verdicts)),
        "outcome": judged.outcome,
        "passes": list(compressed.notes),
        "search": judged.search,
        "advantage": describe_advantage(measured.figures),
        "evaluation_seconds": round(measured.seconds, 3),
        "file": str(compressed.path.relative_to(loaded.scratch)),
        "warnings": [*checked.warnings, *_list_warnings(judged)],
        "excluded": {
            name: why for note in compressed.notes for name, why in note["excluded"].items()
        },
        "environment": _describe_environment(loaded),
    }


def _describe_environment(loaded: Loaded) -> dict[str, Any]:
    recipe = loaded.recipe
    return {
        "libraries": library_versions(recipe),
        "passes_sha256": digest_json(code_identities(recipe)),
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "machine": platform.machine(),
        "seed": recipe.data.seed,
    }


def _list_warnings(judged: Judged) -> list[str]:
    """What a reader of the report should know before trusting it."""
    figures, checked = judged.measured.figures, judged.measured.compressed.checked
    recipe, calibration = checked.loaded.recipe, checked.calibration
    warnings = []
    if recipe.needs_calibration and calibration is not None:
        if checked.loaded.calibration is None:
            warnings.append("Calibrated on random data: this variant can never be promoted.")
        elif len(calibration) < ADVISED_CALIBRATION:
            warnings.append(
                f"Calibrated on {len(calibration)} rows; {ADVISED_CALIBRATION} are advised."
            )
    advantage = describe_advantage(figures)
    if figures["ratio"] < 1 or not advantage["is_better"]:
        warnings.append(advantage["sentence"])
    saturation = describe_saturation(figures)
    if saturation:
        warnings.append(saturation)
    if not has_judged_answers(recipe.gates, figures):
        warnings.append(
            "Without labels or gates.min_agreement no gate judged the answers: this variant can "
            "never be promoted."
        )
    limit = recipe.gates.max_accuracy_drop_points
    if figures["has_labels"] and limit is not None and 100.0 / figures["samples"] > limit > 0:
        warnings.append(
            f"One of {figures['samples']} evaluation rows is {100.0 / figures['samples']:.3g} "
            f"points of accuracy: too few to judge {limit:g}."
        )
    return warnings
