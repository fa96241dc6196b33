"""What a version's outputs mean: said at upload, inferred, corrected before anything runs on it."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from registry.exceptions import InvalidFieldError, StateError
from registry.models import FileRole, Task, Version, VersionState
from registry.reading.contract import FIELDS, FORMS
from registry.services.audit import record_event
from registry.states import CORRECTABLE_STATES, NEVER_RAN

_MADE_ROLES = (FileRole.BASELINE, FileRole.GOLDEN)
_OLD_FORMS = ("scores", "binary", "multi_label")


def given_contract(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a contract that an upload's metadata names.

    `outputs` holds any of them; of `outputs` itself, the role of an output to its name. `task` and
    what `postprocessing` says of the scores count as well.

    Raises:
        InvalidFieldError: an unknown field or task.
    """
    given = dict(metadata.get("outputs") or {})
    post = metadata.get("postprocessing") or {}
    if "task" in metadata:
        given.setdefault("task", metadata["task"])
    if "activation" in post:
        given.setdefault("activation", post["activation"])
    if "scores_output" in post and given.get("task", Task.CLASSIFICATION) == Task.CLASSIFICATION:
        given.setdefault("outputs", {"scores": post["scores_output"]})
    check_given(given)
    return given


def check_given(given: Mapping[str, Any]) -> None:
    """Returns when every field is one of a contract. Raises InvalidFieldError."""
    unknown = sorted(set(given) - set(FIELDS))
    if unknown:
        raise InvalidFieldError(
            f"outputs has unknown fields: {', '.join(unknown)}; known are {', '.join(FIELDS)}",
            {"unknown": unknown},
        )
    task = given.get("task")
    if task is not None and task not in FORMS:
        raise InvalidFieldError(f"task is one of {', '.join(FORMS)}; got {task!r}", {"task": task})


def find_conflict(version: Version, contract: Mapping[str, Any]) -> str:
    """Why a contract cannot be the version's: its model is for another task; empty when it can."""
    model, task = version.model, contract["task"]
    others = model.versions.exclude(pk=version.pk).exclude(state__in=NEVER_RAN)
    is_set = bool(model.labels) or model.task != Task.CLASSIFICATION or others.exists()
    if task == model.task or not is_set:
        return ""
    return (
        f"The model {model} is for {model.task}, and these outputs are read as {task}: upload "
        f"them to a model for {task}, or say how they are {model.task}."
    )


def take_contract(version: Version, contract: Mapping[str, Any]) -> None:
    """Notes what was inferred: on the version, on its model where its task was open, and in
    `postprocessing`, by which agents without contracts read scores. Runs in the caller's
    transaction; the caller saves the version.
    """
    version.contract = dict(contract)
    version.question = ""
    task, model = contract["task"], version.model
    names = [str(name) for name in contract.get("classes", [])]
    if names and not model.labels:
        model.labels = names
        model.save(update_fields=["labels"])
    if task != model.task:
        model.task = task
        model.save(update_fields=["task"])
    if task == Task.CLASSIFICATION and contract["form"] in _OLD_FORMS:
        version.postprocessing = {
            "scores_output": contract["outputs"]["scores"],
            "activation": _old_activation(contract),
            **{
                key: value
                for key, value in version.postprocessing.items()
                if key not in ("scores_output", "activation")
            },
        }


def _old_activation(contract: Mapping[str, Any]) -> str:
    """Logarithms of probabilities have the probabilities as their softmax."""
    activation = str(contract.get("activation", "none"))
    return "softmax" if activation == "exp" else activation


def contract_of_variants(version: Version) -> dict[str, Any]:
    """What holds for every variant of a version that is validated.

    One from before there were contracts is read as it always was.
    """
    if version.contract:
        return dict(version.contract)
    post = version.postprocessing
    if version.model.task != Task.CLASSIFICATION or "scores_output" not in post:
        return {"task": "other", "form": "none"}
    return {
        "task": "classification",
        "form": "scores",
        "outputs": {"scores": post["scores_output"]},
        "activation": post.get("activation", "softmax"),
    }


def manifest_contract(
    version_contract: Mapping[str, Any], inspected: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The contract of a variant's manifest: none for a version from before there were any, whose
    variants all read alike; else the version's, with what the variant's own run adds."""
    if not version_contract:
        return None
    own = {key: inspected[key] for key in ("centroid",) if key in inspected}
    return {**version_contract, **own}


@transaction.atomic
def correct_contract(
    *, version_id: int, given: Mapping[str, Any], actor: str, reason: str = ""
) -> Version:
    """The version, to be validated again with what a person says of its outputs.

    Args:
        given: fields of a contract; what it leaves out is inferred.

    Raises:
        InvalidFieldError: a field that is none. StateError: the version is released, has
            variants that were made of it, or an alias.
    """
    check_given(given)
    version: Version = (
        Version.objects.select_for_update(of=("self",), no_key=True)
        .select_related("model")
        .get(pk=version_id)
    )
    if version.state not in CORRECTABLE_STATES:
        raise StateError(
            f"What the outputs mean can be said until a version is approved; {version} is "
            f"{version.state}",
            {"state": version.state},
        )
    if version.variants.count() != 1:
        raise StateError(f"{version} has variants that were made of it; upload it anew")
    if version.aliases.exists():
        raise StateError(f"An alias points at {version}; move it first")
    before = {"given": version.contract_given, "contract": version.contract}
    variant = version.variants.get()
    variant.files.filter(role__in=_MADE_ROLES).exclude(path="processor-golden.npz").delete()
    variant.manifest_sha256, variant.envelope = None, {}
    variant.save(update_fields=["manifest_sha256", "envelope"])
    version.contract_given = dict(given)
    version.contract, version.question = {}, ""
    version.state = VersionState.VALIDATING
    version.validation_started_at, version.validation_attempts = None, 0
    version.save()
    record_event(
        actor=actor,
        action="version.contract_corrected",
        obj=version,
        summary=f"{actor} said what the outputs of {version} mean",
        details={"before": before, "given": dict(given), "reason": reason},
    )
    return version
