"""Questions about the fleet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db.models import Count, Exists, F, Max, OuterRef, Prefetch, Q, QuerySet
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.lookups import Exact

from fleet.kinds import count_kinds
from fleet.models import (
    Device,
    DeviceIncident,
    Installation,
    InstallationEvent,
    Plan,
    Rollout,
)
from fleet.polling.plans import build_release, cohort_terms, offered_variants, rollout_plan
from fleet.rules.assignment import (
    CANARY,
    STABLE,
    Assignment,
    assign,
    cohort_of,
    is_same,
    matches,
    pick_variant,
)
from fleet.rules.plan_power import StagePower, find_stage_power, propose_percents
from fleet.selection import deployment_devices, device_facts
from registry.models import Model, Variant, Version


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
    #: The variants that the rollout brings, where it stays at the version; empty otherwise.
    new_variant_ids: tuple[int, ...] = ()


def with_firing(devices: QuerySet[Device], *kinds: str) -> QuerySet[Device]:
    """Those of `devices` on which an incident of one of `kinds` fires."""
    firing = DeviceIncident.objects.firing().filter(device=OuterRef("pk"), kind__in=kinds)
    return devices.filter(Exists(firing))


def prefetch_firing() -> Prefetch[Any]:
    """What fires on each device, as `firing`, in one query for all of them."""
    return Prefetch("incidents", DeviceIncident.objects.firing(), to_attr="firing")


def read_plans(models: Collection[str] | None = None) -> list[tuple[str, dict[str, Any], int]]:
    """Model slug, plan and counter of these models or of all that have a plan; one query."""
    rows = Plan.objects.exclude(counter=0)
    if models is not None:
        rows = rows.filter(model__slug__in=models)
    return [
        (row.content["model"], row.content, row.counter)
        for row in rows.only("content", "counter").order_by("model__slug")
    ]


def desired_assignment(device: Device, model: str) -> Assignment | None:
    """What the device should run of this model now; None when nothing is assigned."""
    for slug, plan, counter in read_plans([model]):
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
        .prefetch_related("stages", "gates", "variants", "previous_variants")
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
                new_variant_ids=new_variants(rollout),
            )
        )
    return found


def new_variants(rollout: Rollout) -> tuple[int, ...]:
    """Keys of the variants that a rollout within one version brings; empty for another version."""
    if rollout.target_version_id != rollout.previous_version_id:
        return ()
    before = {variant.pk for variant in rollout.previous_variants.all()}
    return tuple(variant.pk for variant in rollout.variants.all() if variant.pk not in before)


def cohort_of_device(device: Device, model: Model | str, at: datetime) -> str:
    """`canary`, `control` or `stable`: the device's part in a rollout of the model at a time."""
    slug = model if isinstance(model, str) else model.slug
    return cohorts_of_devices([(device, slug)], at)[device.pk, slug]


def cohorts_of_devices(
    pairs: Collection[tuple[Device, str]], at: datetime
) -> dict[tuple[int, str], str]:
    """The same of many devices and models (slugs), by key of the device and slug; three queries.

    The stage is the one that had begun by then, so records that arrive late are labelled by
    what held when they were made.
    """
    rollouts = (
        Rollout.objects.filter(
            deployment__model__slug__in={slug for _, slug in pairs}, started_at__lte=at
        )
        .exclude(finished_at__lte=at)
        .select_related("deployment__model")
        .prefetch_related("stages")
        .order_by("-deployment__priority", "-deployment_id", "-id")
    )
    by_model: dict[str, list[tuple[Rollout, dict[str, Any] | None]]] = {}
    for rollout in rollouts:
        row = rollout, _terms_at(rollout, at)
        by_model.setdefault(rollout.deployment.model.slug, []).append(row)
    found: dict[tuple[int, str], str] = {}
    for device, slug in pairs:
        found[device.pk, slug] = STABLE
        labels = device.selectable
        for rollout, terms in by_model.get(slug, ()):
            if matches(rollout.deployment.selector, labels):
                if terms is not None:
                    found[device.pk, slug] = cohort_of(terms, device.device_id, labels)
                break
    return found


def _terms_at(rollout: Rollout, at: datetime) -> dict[str, Any] | None:
    """What `cohort_of` needs of the stage that had begun by `at`; None before the first."""
    begun = [s.index for s in rollout.stages.all() if s.started_at and s.started_at <= at]
    if not begun:
        return None
    index = max(begun)
    return cohort_terms(rollout, stage_index=None if index == rollout.current_stage else index)


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


def count_still_on(rollout: Rollout) -> int:
    """Devices that last reported running the release the rollout offered them."""
    running = KeyTextTransform(rollout.deployment.model.slug, "device__running")
    return latest_installations(rollout).filter(Exact(running, F("manifest_sha256"))).count()


def has_commits(rollout: Rollout) -> bool:
    """True when a device, in the rollout still, has reported that it runs the target."""
    return InstallationEvent.objects.filter(
        state=Installation.State.COMMITTED, installation__in=latest_installations(rollout)
    ).exists()


def count_running(version: Version) -> int:
    """Accepted devices that last reported running a variant of the version."""
    signed = Variant.objects.filter(version=version, manifest_sha256__isnull=False)
    digests = [str(digest) for digest in signed.values_list("manifest_sha256", flat=True)]
    devices = Device.objects.filter(status=Device.Status.ACCEPTED).annotate(
        digest=KeyTransform(version.model.slug, "running")
    )
    wanted = Q()
    for digest in digests:
        wanted |= Q(digest=digest)
    return devices.filter(wanted).count() if digests else 0


def propose_stages() -> list[dict[str, Any]]:
    """Stages that can decide with the devices there are, for a form and for drafts without any."""
    percents = propose_percents(Device.objects.filter(status=Device.Status.ACCEPTED).count())
    return [{"percent": percent, "bake_seconds": 3600} for percent in percents]


def preview_stages(rollout: Rollout) -> list[dict[str, Any]]:
    """For each stage: how many devices it reaches in all, how many of them it cannot fit, and
    for how many nothing changes because they are to run the same variant already."""
    deployment = rollout.deployment
    stable = build_release(
        deployment.stable_version, offered_variants().filter(pk__in=deployment.variants.all())
    )
    stages = list(rollout.stages.all())
    terms = [rollout_plan(rollout, stage_index=stage.index) for stage in stages]
    previews: list[dict[str, Any]] = [
        {"stage": stage, "devices": 0, "incompatible": 0, "unchanged": 0, "of": 0}
        for stage in stages
    ]
    # The selector has been applied already; what tells devices apart is how far the stages reach.
    plans = [{"deployments": [{"selector": {}, "rollout": term}]} for term in terms]
    kinds = count_kinds(deployment_devices(deployment), model=deployment.model.slug, plans=plans)
    for facts, n in kinds:
        offered = pick_variant(terms[0]["target"], facts) if terms else None
        kept = pick_variant(stable, facts)
        is_unchanged = offered is not None and kept is not None and is_same(offered, kept)
        for term, row in zip(terms, previews, strict=True):
            row["of"] += n
            if cohort_of(term, facts.device_id, facts.labels) == CANARY:
                row["devices"] += n
                row["incompatible"] += n * (offered is None)
                row["unchanged"] += n * is_unchanged
    return previews


def stage_powers(rollout: Rollout) -> list[StagePower]:
    """For each stage: what it can notice with the devices it reaches and fits."""
    return [
        find_stage_power(
            row["devices"] - row["incompatible"] - row["unchanged"],
            rollout.max_failure_rate,
            row["stage"].success_threshold,
        )
        for row in preview_stages(rollout)
    ]
