"""Questions about the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db.models import Count, Exists, Max, OuterRef, Prefetch, QuerySet

from fleet.models import Device, DeviceIncident, Installation, ModelCounter, Rollout
from fleet.polling.plans import rollout_plan
from fleet.rules.assignment import (
    CANARY,
    STABLE,
    Assignment,
    DeviceFacts,
    assign,
    cohort_of,
    matches,
    pick_variant,
)
from fleet.rules.plan_power import StagePower, find_stage_power
from registry.models import Model


class ActiveRollout(NamedTuple):
    """A rollout whose devices are to be measured."""

    rollout_id: int
    model_id: int
    model: str
    target_version_id: int
    previous_version_id: int | None
    stage_index: int
    salt: str
    started_at: datetime | None
    stage_started_at: datetime | None
    #: Versions that stable devices run now: what the canary is compared with.
    deployment_id: int
    #: Metric to the threshold of the rollout's gate.
    gates: Mapping[str, float] = MappingProxyType({})
    #: Metric of one's own to the PromQL query that measures it.
    queries: Mapping[str, str] = MappingProxyType({})


def with_firing(devices: QuerySet[Device], *kinds: str) -> QuerySet[Device]:
    """Those of `devices` on which an incident of one of `kinds` fires."""
    firing = DeviceIncident.objects.firing().filter(device=OuterRef("pk"), kind__in=kinds)
    return devices.filter(Exists(firing))


def prefetch_firing() -> Prefetch[Any]:
    """What fires on each device, as `firing`, in one query for all of them."""
    return Prefetch("incidents", DeviceIncident.objects.firing(), to_attr="firing")


def device_facts(device: Device, model: str) -> DeviceFacts:
    """What the assignment decision may know of a device."""
    return DeviceFacts(
        device_id=device.device_id,
        labels=device.selectable,
        capabilities=device.capabilities,
        generation=device.generation,
        quarantined=frozenset(device.quarantined),
        pin=device.pins.get(model),
    )


def read_plans(model: str | None = None) -> list[tuple[str, dict[str, Any], int]]:
    """Model slug, plan and counter of one model or of all that have a plan; one query."""
    rows = ModelCounter.objects.exclude(value=0)
    if model is not None:
        rows = rows.filter(model__slug=model)
    return [
        (row.plan["model"], row.plan, row.value)
        for row in rows.only("plan", "value").order_by("model__slug")
    ]


def desired_assignment(device: Device, model: str) -> Assignment | None:
    """What the device should run of this model now; None when nothing is assigned."""
    for slug, plan, counter in read_plans(model):
        return assign(plan, counter, device_facts(device, slug))
    return None


def desired_assignments(device: Device) -> list[Assignment]:
    """What the device should run, one per model."""
    found = (
        assign(plan, counter, device_facts(device, slug)) for slug, plan, counter in read_plans()
    )
    return [assignment for assignment in found if assignment is not None]


def active_rollouts() -> list[ActiveRollout]:
    """Every rollout that some devices are on, for those who measure them."""
    rollouts = (
        Rollout.objects.filter(state__in=Rollout.LIVE_STATES)
        .select_related("deployment__model")
        .prefetch_related("stages", "gates")
        .order_by("id")
    )
    found = []
    for rollout in rollouts:
        started = {stage.index: stage.started_at for stage in rollout.stages.all()}
        found.append(
            ActiveRollout(
                rollout_id=rollout.pk,
                model_id=rollout.deployment.model_id,
                model=rollout.deployment.model.slug,
                target_version_id=rollout.target_version_id,
                previous_version_id=rollout.previous_version_id,
                stage_index=rollout.current_stage,
                salt=rollout.salt,
                started_at=rollout.started_at,
                stage_started_at=started.get(rollout.current_stage),
                deployment_id=rollout.deployment_id,
                gates={gate.metric: gate.threshold for gate in rollout.gates.all()},
                queries={g.metric: g.query for g in rollout.gates.all() if g.query},
            )
        )
    return found


def cohort_of_device(device: Device, model: Model | str, at: datetime) -> str:
    """`canary`, `control` or `stable`: the device's part in a rollout of the model at a time.

    The stage is the one that had begun by then, so records that arrive late are labelled by
    what held when they were made.
    """
    slug = model if isinstance(model, str) else model.slug
    rollouts = (
        Rollout.objects.filter(deployment__model__slug=slug, started_at__lte=at)
        .exclude(finished_at__lte=at)
        .select_related("deployment", "target_version")
        .prefetch_related("stages")
        .order_by("-deployment__priority", "-deployment_id", "-id")
    )
    labels = device.selectable
    for rollout in rollouts:
        if not matches(rollout.deployment.selector, labels):
            continue
        begun = [s.index for s in rollout.stages.all() if s.started_at and s.started_at <= at]
        if not begun:
            return STABLE
        index = max(begun)
        at_stage = None if index == rollout.current_stage else index
        return cohort_of(cohort_terms(rollout, at_stage), device.device_id, labels)
    return STABLE


def cohort_terms(rollout: Rollout, stage_index: int | None = None) -> dict[str, Any]:
    """What `cohort_of` reads of a rollout at a stage."""
    return rollout_plan(rollout, stage_index=stage_index)


def latest_installations(rollout: Rollout) -> Any:
    """The rollout's newest installation of each device."""
    newest = (
        Installation.objects.filter(rollout=rollout, device__status=Device.Status.ACCEPTED)
        .order_by()
        .values("device")
        .annotate(newest=Max("id"))
        .values("newest")
    )
    return Installation.objects.filter(pk__in=newest)


def count_states(rollout: Rollout) -> dict[str, int]:
    """Installation state to the number of devices of the rollout in it."""
    rows = latest_installations(rollout).order_by().values("state").annotate(n=Count("id"))
    return {row["state"]: row["n"] for row in rows}


def matching_devices(selector: dict[str, Sequence[str]]) -> list[Device]:
    """Accepted devices that a selector takes in."""
    devices = Device.objects.filter(status=Device.Status.ACCEPTED).only(
        "device_id", "labels", "attributes", "capabilities", "quarantined", "running"
    )
    return [device for device in devices.iterator() if matches(selector, device.selectable)]


def preview_stages(rollout: Rollout) -> list[dict[str, Any]]:
    """For each stage: how many devices it reaches in all, and how many of them it cannot fit."""
    devices = matching_devices(rollout.deployment.selector)
    model = rollout.deployment.model.slug
    previews = []
    for stage in rollout.stages.all():
        terms = rollout_plan(rollout, stage_index=stage.index)
        reached = [
            device
            for device in devices
            if cohort_of(terms, device.device_id, device.selectable) == CANARY
        ]
        fitting = sum(
            pick_variant(terms["target"], device_facts(device, model)) is not None
            for device in reached
        )
        previews.append(
            {
                "stage": stage,
                "devices": len(reached),
                "incompatible": len(reached) - fitting,
                "of": len(devices),
            }
        )
    return previews


def stage_powers(rollout: Rollout) -> list[StagePower]:
    """For each stage: what it can notice with the devices it reaches and fits."""
    return [
        find_stage_power(
            row["devices"] - row["incompatible"],
            rollout.max_failure_rate,
            row["stage"].success_threshold,
        )
        for row in preview_stages(rollout)
    ]
