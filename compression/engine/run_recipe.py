"""Runs a recipe's passes one after the other over files, then measures the result."""

import hashlib
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compression.engine.passes.context import PassContext
from compression.engine.passes.guard import run_guarded
from compression.engine.passes.modernize import modernize_file
from compression.engine.passes.table import RUNNERS
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.evaluation import evaluate_variant, measure_accuracy
from compression.measure.gates import (
    has_judged_answers,
    judge_distance,
    judge_gates,
    judge_saturation,
    judge_search,
    outcome_of,
    verdicts_to_json,
)
from compression.measure.portability import describe_saturation
from compression.measure.samples import (
    Samples,
    check_classes,
    check_disjoint,
    input_specs,
    load_samples,
    random_samples,
)
from compression.measure.scoring import Scoring, choose_scoring
from compression.measure.sessions import open_session
from compression.recipe.graph_facts import read_facts
from compression.recipe.parameters import PASSES
from compression.recipe.preflight import list_findings
from compression.recipe.provenance import PASSES_REVISION, cpu_flags, cpu_model, library_versions
from compression.recipe.recipe import Recipe, parse_recipe

Emit = Callable[..., None]
PROGRESS_SECONDS = 0.5
ADVISED_CALIBRATION = 1000
ACCURACY_TOLERANCE = 0.005


def run_chain(order: dict[str, Any], scratch: Path, emit: Emit) -> dict[str, Any]:
    """Runs the passes that are not done yet and returns the report.

    The order names files inside `scratch`: `source`, `calibration` or None, `evaluation`;
    `done` lists the passes a cache already had, each with its file and notes.
    """
    recipe = parse_recipe(order["recipe"])
    original = scratch / order["source"]
    warnings = check_graph(original, recipe)
    calibration, evaluation = load_sets(order, scratch, recipe, original)
    scoring = choose_scoring(
        original,
        evaluation,
        output=order.get("scores_output"),
        task=order.get("task", "classification"),
        memory_bytes=recipe.limits.memory_bytes,
    )
    if not scoring.is_classifier:
        # Labels are classes; without scores there is nothing to hold against them.
        calibration, evaluation = calibration and calibration.unlabelled(), evaluation.unlabelled()
    for samples in filter(None, (calibration, evaluation)):
        check_classes(samples, scoring.classes)
    check_registered_accuracy(order.get("registered_accuracy"), original, evaluation, scoring)
    modern = scratch / "modern.onnx"
    changed = modernize_file(original, modern)
    warnings += changed
    current, notes = modern if changed else original, []
    for index, step in enumerate(recipe.passes):
        if index < len(order["done"]):
            cached = order["done"][index]
            current = scratch / cached["file"] if cached["file"] else current
            notes.append({**cached["notes"], "is_cached": True})
            emit("step", index=index, name=step.name, state="cached")
            continue
        emit("step", index=index, name=step.name, state="started")
        folder = scratch / f"step{index}"
        folder.mkdir(exist_ok=True)
        destination = folder / "model.onnx"
        context = PassContext(
            source=current,
            destination=destination,
            original=original,
            scratch=folder,
            parameters=step.parameters,
            target=recipe.target,
            search=recipe.search,
            calibration=calibration,
            evaluation=evaluation,
            gates=recipe.gates,
            scoring=scoring,
            seed=recipe.data.seed,
            threads=recipe.limits.threads,
            memory_bytes=recipe.limits.memory_bytes,
            report_progress=_Throttle(emit, index, step.name),
        )
        started = time.monotonic()
        result = run_guarded(step.name, RUNNERS[step.name], context)
        content = destination.read_bytes()
        note = {
            "pass": step.name,
            "seconds": round(time.monotonic() - started, 3),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "excluded": result.excluded,
            "facts": result.facts,
        }
        notes.append({**note, "is_cached": False})
        file = str(destination.relative_to(scratch))
        emit("step", index=index, name=step.name, state="done", file=file, notes=note)
        current = destination
    emit("step", index=len(recipe.passes), name="evaluate", state="started")
    started = time.monotonic()
    report = evaluate_variant(
        original,
        current,
        evaluation,
        target=recipe.target,
        threads=recipe.limits.threads,
        scoring=scoring,
    )
    search = next((note["facts"]["search"] for note in notes if "search" in note["facts"]), None)
    verdicts = judge_gates(recipe.gates, report)
    narrow = judge_saturation(recipe.gates, report, recipe.target.isa)
    if narrow is not None:
        verdicts.append(narrow)
    far = judge_distance(report)
    # A search may have chosen a trained candidate; it judges its candidates itself.
    if far is not None and search is None and not any(PASSES[s.name].trains for s in recipe.passes):
        verdicts.append(far)
    if search is not None:
        verdicts.append(judge_search(search))
    report |= {
        "schema": "compression-report/1",
        "gates": verdicts_to_json(verdicts),
        "outcome": outcome_of(report, verdicts),
        "passes": notes,
        "search": search,
        "evaluation_seconds": round(time.monotonic() - started, 3),
        "file": str(current.relative_to(scratch)),
        "warnings": [*warnings, *_warnings(recipe, calibration, order, report)],
        "excluded": {name: why for note in notes for name, why in note["excluded"].items()},
        "environment": {
            "libraries": library_versions(recipe),
            "passes_revision": PASSES_REVISION,
            "cpu": cpu_model(),
            "cpu_flags": cpu_flags(),
            "machine": platform.machine(),
            "seed": recipe.data.seed,
        },
    }
    return report


def load_sets(
    order: dict[str, Any], scratch: Path, recipe: Recipe, original: Path
) -> tuple[Samples | None, Samples]:
    """The calibration set, if any, and the evaluation set, checked against graph and each other."""
    try:
        session = open_session(original)
    except Exception as error:  # every class of ONNX Runtime's binding derives from Exception alone
        raise ModelUnsupportedError(
            f"ONNX Runtime does not load the source: {str(error)[:500]}"
        ) from error
    specs = input_specs(session)
    evaluation = load_samples(scratch / order["evaluation"], specs)
    if order.get("calibration"):
        calibration = load_samples(scratch / order["calibration"], specs)
        if len(calibration) < recipe.data.min_calibration:
            raise DataSetUnusableError(
                f"Calibration needs at least {recipe.data.min_calibration} rows "
                f"(data.min_calibration), found {len(calibration)}."
            )
        check_disjoint(calibration, evaluation)
        return calibration, evaluation
    if not recipe.needs_calibration:
        return None, evaluation
    if not recipe.data.allow_random:
        raise DataSetUnusableError(
            "This recipe needs calibration samples; random data is refused "
            "because it destroys models (data.allow_random is false)."
        )
    return random_samples(specs, recipe.data.min_calibration, recipe.data.seed), evaluation


def check_graph(path: Path, recipe: Recipe) -> list[str]:
    """What preflight warns of.

    Raises:
        ModelUnsupportedError: with everything that preflight refuses the recipe for.
    """
    findings = list_findings(read_facts(path), recipe)
    refusals = [item.message for item in findings if item.is_refusal]
    if refusals:
        raise ModelUnsupportedError(" ".join(refusals))
    return [item.message for item in findings]


def _warnings(
    recipe: Recipe, calibration: Samples | None, order: dict[str, Any], report: dict[str, Any]
) -> list[str]:
    """What a reader of the report should know before trusting it."""
    warnings = []
    if recipe.needs_calibration and calibration is not None:
        if not order.get("calibration"):
            warnings.append("Calibrated on random data: this variant can never be promoted.")
        elif len(calibration) < ADVISED_CALIBRATION:
            warnings.append(
                f"Calibrated on {len(calibration)} rows; {ADVISED_CALIBRATION} are advised."
            )
    if report["ratio"] < 1:
        warnings.append("The variant is larger than its source: there is too little to store.")
    saturation = describe_saturation(report)
    if saturation:
        warnings.append(saturation)
    if not has_judged_answers(recipe.gates, report):
        warnings.append(
            "Without labels or gates.min_agreement no gate judged the answers: this variant can "
            "never be promoted."
        )
    limit = recipe.gates.max_accuracy_drop_points
    if report["has_labels"] and limit is not None and 100.0 / report["samples"] > limit > 0:
        warnings.append(
            f"One of {report['samples']} evaluation rows is {100.0 / report['samples']:.3g} points "
            f"of accuracy: too few to judge {limit:g}."
        )
    return warnings


def check_registered_accuracy(
    registered: float | None, original: Path, evaluation: Samples, scoring: Scoring
) -> None:
    """Refuses to compress a model whose FP32 accuracy is not the one it was registered with.

    The preprocessing of the data, or the data itself, is then not what it is taken for. None skips
    the check: no accuracy is registered for this very data set.
    """
    if registered is None or evaluation.labels is None:
        return
    measured = measure_accuracy(original, evaluation, scoring)
    if abs(measured - registered) > ACCURACY_TOLERANCE:
        raise DataSetUnusableError(
            f"FP32 reaches {measured:.4f} on the evaluation set, but {registered:.4f} is "
            "registered for it."
        )


class _Throttle:
    """Passes progress on at most twice a second."""

    def __init__(self, emit: Emit, index: int, name: str) -> None:
        self._emit, self._index, self._name = emit, index, name
        self._started = time.monotonic()
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        spent = now - self._started
        remaining = spent / done * (total - done) if done else None
        self._emit(
            "progress",
            index=self._index,
            name=self._name,
            done=done,
            total=total,
            eta_seconds=None if remaining is None else round(remaining, 1),
        )
