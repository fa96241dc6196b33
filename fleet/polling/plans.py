"""The compiled state of a model that its assignments are computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Prefetch, Q, Sum

from fleet.models import Deployment, Rollout, RolloutStage
from fleet.rules.assignment import buckets_of_percent
from registry.models import FileRole, Model, Variant, Version
from registry.states import DEPLOYABLE_STATES


def build_plan(*, model_id: int) -> dict[str, Any]:
    """The plan as `fleet.rules.assignment` reads it."""
    deployments = (
        Deployment.objects.filter(model_id=model_id, state=Deployment.State.ACTIVE)
        .select_related("stable_version")
        .order_by("id")
    )
    live = {
        rollout.deployment_id: rollout
        for rollout in Rollout.objects.filter(
            deployment__model_id=model_id, state__in=Rollout.LIVE_STATES
        )
        .select_related("target_version")
        .prefetch_related(Prefetch("stages", RolloutStage.objects.order_by("index")))
    }
    return {
        "model": Model.objects.values_list("slug", flat=True).get(pk=model_id),
        "deployments": [
            {
                "id": deployment.pk,
                "selector": deployment.selector,
                "priority": deployment.priority,
                "floor_sequence": deployment.floor_sequence,
                "stable": _release(deployment.stable_version),
                "rollout": rollout_plan(live[deployment.pk]) if deployment.pk in live else None,
            }
            for deployment in deployments
        ],
    }


def rollout_plan(rollout: Rollout, *, stage_index: int | None = None) -> dict[str, Any]:
    """A rollout's part of the plan, now or as if it stood fully exposed at another stage."""
    index = rollout.current_stage if stage_index is None else stage_index
    stages = [stage for stage in rollout.stages.all() if stage.index <= index]
    reach = max((buckets_of_percent(stage.percent) for stage in stages), default=0)
    return {
        "id": rollout.pk,
        "salt": rollout.salt,
        "stage": index,
        "exposed": rollout.exposed_buckets if stage_index is None else reach,
        "reach": reach,
        "canaries": [stage.canary_selector for stage in stages if stage.canary_selector],
        "target": _release(rollout.target_version),
    }


def _release(version: Version | None) -> dict[str, Any] | None:
    """A version with the variants a device may be given; None when it may not be deployed."""
    if version is None or version.state not in DEPLOYABLE_STATES:
        return None
    variants = (
        Variant.objects.filter(version=version, is_promotable=True, manifest_sha256__isnull=False)
        .annotate(
            code_bytes=Sum(
                "files__blob__size_bytes",
                filter=Q(files__role__in=[FileRole.MODEL, FileRole.EXTERNAL_DATA]),
            )
        )
        .order_by("pk")
    )
    known = {variant.pk: variant for variant in variants}
    return {
        "version": version.version,
        "sequence": version.sequence,
        "variants": [
            {
                "name": variant.name,
                "manifest_sha256": variant.manifest_sha256,
                "requirements": variant.requirements,
                "size_bytes": variant.code_bytes or 0,
                **_measure_chain(variant, known),
            }
            for variant in known.values()
        ],
    }


def _measure_chain(variant: Variant, known: Mapping[int, Variant]) -> dict[str, float | None]:
    """What the variant loses and gains beside the uploaded one, through all it was made of.

    None where a link of the chain was not measured.
    """
    drop: float | None = 0.0
    speedup: float | None = 1.0
    link: Variant | None = variant
    while link is not None and link.derived_from_id is not None:
        lost, times = link.metrics.get("accuracy_drop_points"), link.metrics.get("speedup")
        drop = None if drop is None or lost is None else drop + lost
        speedup = None if speedup is None or times is None else speedup * times
        link = known.get(link.derived_from_id)
    return {"drop_points": drop, "speedup": speedup}
