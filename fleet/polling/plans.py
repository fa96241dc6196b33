"""The compiled state of a model that its assignments are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Prefetch, Q, QuerySet, Sum

from fleet.models import Deployment, Rollout, RolloutStage
from fleet.rules.assignment import buckets_of_percent
from registry.models import FileRole, Model, Variant, Version
from registry.states import DEPLOYABLE_STATES


def build_plan(*, model_id: int) -> dict[str, Any]:
    """The plan as `fleet.rules.assignment` reads it."""
    deployments = (
        Deployment.objects.filter(model_id=model_id, state=Deployment.State.ACTIVE)
        .select_related("stable_version")
        .prefetch_related(Prefetch("variants", offered_variants()))
        .order_by("id")
    )
    live = {
        rollout.deployment_id: rollout
        for rollout in Rollout.objects.filter(
            deployment__model_id=model_id, state__in=Rollout.LIVE_STATES
        )
        .select_related("target_version")
        .prefetch_related(
            Prefetch("stages", RolloutStage.objects.order_by("index")),
            Prefetch("variants", offered_variants()),
        )
    }
    return {
        "model": Model.objects.values_list("slug", flat=True).get(pk=model_id),
        "deployments": [
            {
                "id": deployment.pk,
                "selector": deployment.selector,
                "priority": deployment.priority,
                "floor_sequence": deployment.floor_sequence,
                "stable": build_release(deployment.stable_version, deployment.variants.all()),
                "rollout": rollout_plan(live[deployment.pk]) if deployment.pk in live else None,
            }
            for deployment in deployments
        ],
    }


def rollout_plan(rollout: Rollout, *, stage_index: int | None = None) -> dict[str, Any]:
    """A rollout's part of the plan, now or as if it stood fully exposed at another stage."""
    return {
        "id": rollout.pk,
        **cohort_terms(rollout, stage_index=stage_index),
        "target": build_release(rollout.target_version, rollout.variants.all()),
    }


def cohort_terms(rollout: Rollout, *, stage_index: int | None = None) -> dict[str, Any]:
    """What `cohort_of` reads of a rollout, now or fully exposed at another stage."""
    index = rollout.current_stage if stage_index is None else stage_index
    stages = [stage for stage in rollout.stages.all() if stage.index <= index]
    reach = max((buckets_of_percent(stage.percent) for stage in stages), default=0)
    return {
        "salt": rollout.salt,
        "stage": index,
        "exposed": rollout.exposed_buckets if stage_index is None else reach,
        "reach": reach,
        "canaries": [stage.canary_selector for stage in stages if stage.canary_selector],
    }


def offered_variants() -> QuerySet[Variant]:
    """Signed variants with the size of their code, in the order in which they were made."""
    weights = Q(files__role__in=[FileRole.MODEL, FileRole.EXTERNAL_DATA])
    return (
        Variant.objects.filter(manifest_sha256__isnull=False)
        .annotate(code_bytes=Sum("files__blob__size_bytes", filter=weights))
        .order_by("pk")
    )


def build_release(version: Version | None, variants: Iterable[Variant]) -> dict[str, Any] | None:
    """A version with the variants that were chosen; None when it may not be deployed.

    Only named variants count: one that is attached later reaches nobody by itself.
    """
    if version is None or version.state not in DEPLOYABLE_STATES:
        return None
    named = [variant for variant in variants if variant.version_id == version.pk]
    known = {variant.pk: variant for variant in version.variants.all()}
    return {
        "version": version.version,
        "sequence": version.sequence,
        "variants": [
            {
                "name": variant.name,
                "manifest_sha256": variant.manifest_sha256,
                "requirements": variant.requirements,
                "size_bytes": getattr(variant, "code_bytes", None) or 0,
                **_measure_chain(variant, known),
            }
            for variant in named
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
