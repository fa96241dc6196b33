"""Everything that is refused before a pass runs: graph, data sets and registered accuracy."""

from dataclasses import dataclass, replace
from pathlib import Path

from compression.engine.passes.modernize import modernize_file
from compression.engine.stages.load import Loaded
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.evaluation import measure_accuracy
from compression.measure.models import OpenModel
from compression.measure.samples import (
    Samples,
    check_classes,
    check_disjoint,
    input_specs,
    load_samples,
    random_samples,
)
from compression.measure.scoring import Scoring, choose_scoring
from compression.recipe.preflight import list_findings
from registry.validation.feeds import InputSpec

ACCURACY_TOLERANCE = 0.005


@dataclass(frozen=True)
class Checked:
    """An order that nothing speaks against.

    Attributes:
        original: the source as it came, the control of every comparison.
        start: the file that the first pass reads, the source or its modern form.
    """

    loaded: Loaded
    original: OpenModel
    start: Path
    calibration: Samples | None
    evaluation: Samples
    scoring: Scoring
    warnings: tuple[str, ...]


def check(loaded: Loaded) -> Checked:
    """The order with its source open and its samples read.

    Raises:
        ModelUnsupportedError: the recipe cannot work on the graph, or the graph does not run.
        DataSetUnusableError: a data set does not feed it.
    """
    warnings = _check_graph(loaded)
    original = _open_source(loaded)
    calibration, evaluation = _load_sets(loaded, input_specs(loaded.source, loaded.input_axes))
    scoring, evaluation = choose_scoring(
        original,
        evaluation,
        contract=loaded.contract,
        memory_bytes=loaded.recipe.limits.memory_bytes,
    )
    evaluation = scoring.to_columns(evaluation)
    if calibration is not None:
        calibration = scoring.to_columns(
            replace(
                calibration,
                output_axes=evaluation.output_axes,
                is_one_by_one=evaluation.is_one_by_one or calibration.is_one_by_one,
            )
        )
    for samples in filter(None, (calibration, evaluation)):
        check_classes(samples, scoring.classes)
    _check_registered_accuracy(loaded, original, evaluation, scoring)
    modern = loaded.scratch / "modern.onnx"
    changes = modernize_file(loaded.source, modern)
    return Checked(
        loaded=loaded,
        original=original,
        start=modern if changes else loaded.source,
        calibration=calibration,
        evaluation=evaluation,
        scoring=scoring,
        warnings=(*warnings, *changes),
    )


def _check_graph(loaded: Loaded) -> list[str]:
    """What preflight warns of; everything that it refuses the recipe for is raised at once."""
    findings = list_findings(loaded.facts, loaded.recipe)
    refusals = [item.message for item in findings if item.is_refusal]
    if refusals:
        raise ModelUnsupportedError(" ".join(refusals))
    return [item.message for item in findings]


def _open_source(loaded: Loaded) -> OpenModel:
    model = OpenModel(loaded.source, loaded.recipe.limits.threads)
    try:
        model.session()
    except Exception as error:  # every class of ONNX Runtime's binding derives from Exception alone
        raise ModelUnsupportedError(
            f"ONNX Runtime does not load the source: {str(error)[:500]}"
        ) from error
    return model


def _load_sets(loaded: Loaded, specs: list[InputSpec]) -> tuple[Samples | None, Samples]:
    """The calibration set, if any, and the evaluation set, checked against graph and each other."""
    recipe, data = loaded.recipe, loaded.recipe.data
    evaluation = load_samples(loaded.evaluation, specs)
    if loaded.calibration is not None:
        calibration = load_samples(loaded.calibration, specs)
        if len(calibration) < data.min_calibration:
            raise DataSetUnusableError(
                f"Calibration needs at least {data.min_calibration} rows (data.min_calibration), "
                f"found {len(calibration)}."
            )
        check_disjoint(calibration, evaluation)
        return calibration, evaluation
    if not recipe.needs_calibration:
        return None, evaluation
    if not data.allow_random:
        raise DataSetUnusableError(
            "This recipe needs calibration samples; random data is refused "
            "because it destroys models (data.allow_random is false)."
        )
    return random_samples(specs, data.min_calibration, data.seed), evaluation


def _check_registered_accuracy(
    loaded: Loaded, original: OpenModel, evaluation: Samples, scoring: Scoring
) -> None:
    """Refuses to compress a model whose FP32 accuracy is not the one it was registered with.

    The preprocessing of the data, or the data itself, is then not what it is taken for.
    """
    registered = loaded.registered_accuracy
    if registered is None or evaluation.labels is None:
        return
    measured = measure_accuracy(original, evaluation, scoring)
    if abs(measured - registered) > ACCURACY_TOLERANCE:
        raise DataSetUnusableError(
            f"FP32 reaches {measured:.4f} on the evaluation set, but {registered:.4f} is "
            "registered for it."
        )
