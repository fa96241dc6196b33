"""Deployments: what a part of the fleet is to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from fleet.exceptions import InvalidFleetInputError
from fleet.models import Deployment, Rollout
from fleet.services.plans import refresh_plan
from registry.models import Model, Variant, Version
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
) -> Deployment:
    """A deployment that is in force at once."""
    deployment = Deployment(
        name=name,
        model=model,
        selector=check_selector(selector or {}),
        priority=priority,
        stable_version=stable_version,
        floor_sequence=floor_sequence,
    )
    _check(deployment)
    deployment.save()
    refresh_plan(model_id=model.pk)
    record_event(
        actor=actor,
        action="deployment.created",
        obj=deployment,
        summary=f"Deployment {name} of {model.slug} at {stable_version or 'no version'}",
    )
    return deployment


@transaction.atomic
def update_deployment(*, deployment_id: int, actor: str, **changes: Any) -> Deployment:
    """The deployment with changed `name`, `selector`, `priority`, `stable_version`, `state` or
    `floor_sequence`.

    Raises:
        InvalidFleetInputError: the version belongs elsewhere, or a live rollout decides it.
    """
    deployment = (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("model", "stable_version")
        .get(pk=deployment_id)
    )
    allowed = {"name", "selector", "priority", "stable_version", "state", "floor_sequence"}
    if set(changes) - allowed:
        raise InvalidFleetInputError(f"Cannot change {', '.join(sorted(set(changes) - allowed))}")
    live = deployment.rollouts.filter(
        state__in=[*Rollout.LIVE_STATES, Rollout.State.ABORTING]
    ).exists()
    moves = "stable_version" in changes and changes["stable_version"] != deployment.stable_version
    if live and (moves or changes.get("state") == Deployment.State.RETIRED):
        raise InvalidFleetInputError("A live rollout decides this deployment's version")
    if "selector" in changes:
        changes["selector"] = check_selector(changes["selector"])
    if moves:
        queue_step_deltas(deployment.stable_version, changes["stable_version"])
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
        details={name: str(value) for name, value in changes.items()},
    )
    return deployment


def queue_step_deltas(before: Version | None, after: Version | None) -> None:
    """Has patches made for devices that go from one version to the other in the same variant."""
    if before is None or after is None:
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


def _check(deployment: Deployment) -> None:
    if deployment.stable_version is not None and deployment.state == Deployment.State.ACTIVE:
        check_target(deployment, deployment.stable_version)
