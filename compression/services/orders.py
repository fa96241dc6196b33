"""From what a person orders to a complete job, with everything refused that cannot end well."""

from typing import Any

from compression.engine.training.requirement import MIN_TRAINING_MEMORY_BYTES, check_engine
from compression.exceptions import (
    DataSetUnusableError,
    JobStateError,
    ModelUnsupportedError,
    RecipeInvalidError,
)
from compression.models import Job
from compression.recipe.dataset_fit import find_misfit
from compression.recipe.passes import PASSES
from compression.recipe.preflight import check_inputs, check_order, inputs_of_signature
from compression.recipe.presets import get_preset
from compression.recipe.provenance import job_identity
from compression.recipe.recipe import Recipe, merge_recipe, parse_recipe
from registry.models import DataSet, FileRole, Variant, Version, VersionState
from registry.services.contracts import contract_of_variants
from registry.validation.feeds import choose_specs

OPEN_STATES = (VersionState.READY, VersionState.APPROVED, VersionState.DEPRECATED)


def prepare_job(
    *,
    version: Version,
    evaluation_dataset: DataSet,
    actor: str,
    preset: str = "",
    recipe: dict[str, Any] | None = None,
    calibration_dataset: DataSet | None = None,
    source_variant: Variant | None = None,
    variant_name: str = "",
) -> Job:
    """An unsaved queued job with its complete recipe and its identity.

    Args:
        preset: the name of a preset; `recipe` then holds only the sections that differ.
        recipe: a whole `compress/1` recipe when no preset is named.
        source_variant: what to start from; None takes the version's own FP32 variant.

    Raises:
        RecipeInvalidError, DataSetUnusableError, JobStateError, TrainingUnavailableError,
        ModelUnsupportedError
    """
    if version.state not in OPEN_STATES:
        raise JobStateError(f"Expected a version that is ready; {version} is {version.state}.")
    document = recipe or {}
    if preset:
        document = merge_recipe(get_preset(preset).recipe, document)
    parsed = parse_recipe(document)
    _check_training(parsed)
    _check_preflight(parsed, version)
    for dataset in filter(None, (calibration_dataset, evaluation_dataset)):
        if dataset.model_id != version.model_id:
            raise DataSetUnusableError(f"Data set {dataset} belongs to another model.")
        specs = choose_specs(version.signature["inputs"], _input_axes(version))
        problem = find_misfit(dataset.arrays, specs)
        if problem:
            raise DataSetUnusableError(f"Data set {dataset.name}: {problem}")
    _check_calibration(parsed, calibration_dataset, evaluation_dataset)
    source = source_variant or version.variants.filter(derived_from=None).order_by("pk").first()
    if source is None or source.version_id != version.pk:
        raise JobStateError(f"{version} has no variant to start from.")
    model_file = source.files.get(role=FileRole.MODEL)
    complete = parsed.to_json()
    complete["source"] = {"version": str(version), "sha256": model_file.blob_id}
    complete["data"]["calibration"] = calibration_dataset and calibration_dataset.blob_id
    complete["data"]["evaluation"] = evaluation_dataset.blob_id
    return Job(
        version=version,
        source_variant=source,
        calibration_dataset=calibration_dataset,
        evaluation_dataset=evaluation_dataset,
        preset=preset,
        variant_name=variant_name or _default_name(preset, parsed),
        recipe=complete,
        identity=job_identity(source.manifest_sha256, parse_recipe(complete)),
        created_by=actor,
    )


def _check_calibration(recipe: Recipe, calibration: DataSet | None, evaluation: DataSet) -> None:
    if calibration is None:
        if recipe.needs_calibration and not recipe.data.allow_random:
            raise DataSetUnusableError(
                "This recipe needs a calibration data set; random data is refused because it "
                "destroys models."
            )
        return
    if calibration.pk == evaluation.pk:
        raise DataSetUnusableError("Calibration and evaluation must be different data sets.")
    if calibration.rows < recipe.data.min_calibration:
        raise DataSetUnusableError(
            f"Expected at least {recipe.data.min_calibration} calibration rows "
            f"(data.min_calibration), found {calibration.rows}."
        )


def _check_preflight(recipe: Recipe, version: Version) -> None:
    """What is known without opening the model; the rest is checked where the child starts."""
    problems = list(check_order(recipe))
    if problems:
        raise RecipeInvalidError(" ".join(problems), {"at": "passes"})
    inputs = inputs_of_signature(version.signature, _input_axes(version))
    problems = list(check_inputs(inputs, allow_random=recipe.data.allow_random))
    if problems:
        raise ModelUnsupportedError(" ".join(problems))


def _input_axes(version: Version) -> dict[str, int | None]:
    return dict(contract_of_variants(version).get("input_batch_axes", {}))


def _check_training(recipe: Recipe) -> None:
    names = [step.name for step in recipe.passes if PASSES[step.name].trains]
    check_engine(names)
    if names and recipe.limits.memory_bytes < MIN_TRAINING_MEMORY_BYTES:
        raise RecipeInvalidError(
            f"limits.memory_bytes: {', '.join(names)} needs at least {MIN_TRAINING_MEMORY_BYTES}, "
            f"found {recipe.limits.memory_bytes}.",
            {"at": "limits.memory_bytes"},
        )


def _default_name(preset: str, recipe: Recipe) -> str:
    if preset:
        return get_preset(preset).variant
    names = [step.name.replace(".", "-") for step in recipe.passes if step.name != "prepare"]
    return ("-".join(names) or "prepared")[:56]
