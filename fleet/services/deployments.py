"""Deployments: what a part of the fleet is to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from fleet.exceptions import InvalidFleetInputError
from fleet.models import Deployment, Rollout
from fleet.services.plans import refresh_plan
from fleet.services.taken_back import check_reason
from fleet.services.variants import choose_variants
from registry.models import Alias, Model, Variant, Version
from registry.services.audit import record_event
from registry.services.deltas import queue_deltas
from registry.states import DEPLOYABLE_STATES


@transaction.atomic
def create_deployment(
    *,
    name: str,
    model: Model,
    actor: str,
    selector: Mapping[str, Sequence[str]] | None = None,
    priority: int = 0,
    stable_version: Version | None = None,
    floor_sequence: int = 0,
    variants: Sequence[str] | None = None,
    follows: Alias | None = None,
    reason: str = "",
) -> Deployment:
    """A deployment that is in force at once.

    Args:
        stable_version: what its devices run from now on; None for the version that `follows`
            names, and nothing without that.
        variants: names of the version's variants to offer; None for all that may be offered now.
            One that is attached later waits for a rollout of its own.
        follows: an alias of the model; moving it starts a rollout.
        reason: why; needed for a version that was taken back before.
    """
    _check_follows(model, follows)
    if stable_version is None and follows is not None:
        stable_version = follows.version
    if variants is not None and stable_version is None:
        raise InvalidFleetInputError("Variants are of a stable version; there is none")
    deployment = Deployment(
        name=name,
        model=model,
        selector=check_selector(selector or {}),
        priority=priority,
        stable_version=stable_version,
        floor_sequence=floor_sequence,
        follows=follows,
    )
    _check(deployment)
    chosen = choose_variants(stable_version, variants) if stable_version else []
    if stable_version is not None:
        check_reason(stable_version, chosen, reason)
    deployment.save()
    deployment.variants.set(chosen)
    refresh_plan(model_id=model.pk)
    record_event(
        actor=actor,
        action="deployment.created",
        obj=deployment,
        summary=f"Deployment {name} of {model.slug} at {stable_version or 'no version'}",
        details={"variants": [variant.name for variant in chosen], "reason": reason},
    )
    return deployment


@transaction.atomic
def update_deployment(
    *, deployment_id: int, actor: str, reason: str = "", **changes: Any
) -> Deployment:
    """The deployment with changed `name`, `selector`, `priority`, `state`, `floor_sequence` or
    `follows`. Its version and variants change by a rollout, or by `set_release_at_once`.

    Raises:
        InvalidFleetInputError: another field, a value that makes no sense, or a live rollout that
            retiring would leave without its deployment.
    """
    deployment = (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("model", "stable_version")
        .get(pk=deployment_id)
    )
    allowed = {"name", "selector", "priority", "state", "floor_sequence", "follows"}
    if set(changes) - allowed:
        raise InvalidFleetInputError(f"Cannot change {', '.join(sorted(set(changes) - allowed))}")
    if changes.get("state") == Deployment.State.RETIRED:
        check_no_live_rollout(deployment)
    if "selector" in changes:
        changes["selector"] = check_selector(changes["selector"])
    if "follows" in changes:
        _check_follows(deployment.model, changes["follows"])
    for name, value in changes.items():
        setattr(deployment, name, value)
    _check(deployment)
    deployment.save()
    refresh_plan(model_id=deployment.model_id)
    record_event(
        actor=actor,
        action="deployment.changed",
        obj=deployment,
        summary=f"Deployment {deployment.name}: {', '.join(sorted(changes))} changed",
        details={"reason": reason, **{name: str(value) for name, value in changes.items()}},
    )
    return deployment


def check_no_live_rollout(deployment: Deployment) -> None:
    """Nothing, when no rollout of the deployment is under way.

    Raises:
        InvalidFleetInputError: one is, and it decides what devices run.
    """
    live = [*Rollout.LIVE_STATES, Rollout.State.ABORTING]
    rollout = deployment.rollouts.filter(state__in=live).first()
    if rollout is not None:
        raise InvalidFleetInputError(
            f"A live rollout decides this deployment's version: {rollout} is {rollout.state}",
            {"rollout": rollout.pk},
        )


def queue_step_deltas(before: Version | None, after: Version | None) -> None:
    """Has patches made for devices that go from one version to the other in the same variant."""
    if before is None or after is None or before.pk == after.pk:
        return
    digests: dict[str, dict[int, str]] = {}
    for variant in Variant.objects.filter(
        version__in=[before, after], manifest_sha256__isnull=False
    ):
        named = digests.setdefault(variant.name, {})
        named[variant.version_id] = str(variant.manifest_sha256)
    queue_deltas(
        (named[before.pk], named[after.pk])
        for named in digests.values()
        if before.pk in named and after.pk in named
    )


def check_selector(selector: Any) -> dict[str, list[str]]:
    """A map of label to a list of allowed values.

    Raises:
        InvalidFleetInputError: of any other shape.
    """
    if not isinstance(selector, Mapping):
        raise InvalidFleetInputError("A selector maps labels to lists of allowed values")
    checked = {}
    for name, allowed in selector.items():
        values = [allowed] if isinstance(allowed, str) else allowed
        is_list = isinstance(values, list | tuple) and all(isinstance(v, str) for v in values)
        if not is_list or not values:
            raise InvalidFleetInputError(f"The selector's {name!r} is not a list of values")
        checked[str(name)] = list(values)
    return checked


def check_target(deployment: Deployment, version: Version) -> None:
    """Refuses a version the deployment's devices would not or must not run."""
    if version.model_id != deployment.model_id:
        raise InvalidFleetInputError(f"{version} is not a version of {deployment.model}")
    if version.state not in DEPLOYABLE_STATES:
        raise InvalidFleetInputError(f"{version} is {version.state}; approve it first")
    if version.sequence < deployment.floor_sequence:
        raise InvalidFleetInputError(
            f"{version} has sequence {version.sequence}, below the floor "
            f"{deployment.floor_sequence}"
        )


def _check_follows(model: Model, alias: Alias | None) -> None:
    if alias is not None and alias.model_id != model.pk:
        raise InvalidFleetInputError(f"{alias} is no alias of {model}")


def _check(deployment: Deployment) -> None:
    if deployment.stable_version is not None and deployment.state == Deployment.State.ACTIVE:
        check_target(deployment, deployment.stable_version)
