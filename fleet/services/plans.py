"""The plan of a model and its rising counter, kept in step."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from django.db import transaction
from django.db.models import Prefetch, Sum

from fleet.assignment import buckets_of_percent
from fleet.models import Deployment, ModelCounter, Rollout, RolloutStage
from fleet.polls import bump_epoch
from registry.manifest import canonical_bytes
from registry.models import Model, Variant, Version
from registry.states import DEPLOYABLE_STATES

logger = logging.getLogger(__name__)


@transaction.atomic
def refresh_plan(*, model_id: int) -> ModelCounter:
    """The model's counter, raised when its plan is no longer what it was.

    Called in the transaction of everything that can change an assignment; a sweep calls it for
    changes made in the registry, such as a new variant or a withdrawn version.
    """
    ModelCounter.objects.get_or_create(model_id=model_id)
    row = ModelCounter.objects.select_for_update().get(model_id=model_id)
    plan = build_plan(model_id=model_id)
    digest = hashlib.sha256(canonical_bytes(plan)).hexdigest()
    if digest != row.plan_digest:
        row.value += 1
        row.plan = plan
        row.plan_digest = digest
        row.save()
        slug = plan["model"]
        transaction.on_commit(lambda: bump_epoch(f"plan:{slug}"))
        logger.info("Plan of model %s is now number %s", slug, row.value)
    return row


def refresh_all_plans() -> None:
    """Brings every plan up to date with the registry."""
    for model_id in Deployment.objects.values_list("model_id", flat=True).distinct():
        refresh_plan(model_id=model_id)


def build_plan(*, model_id: int) -> dict[str, Any]:
    """The plan as `fleet.assignment` reads it."""
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
    """A version with its variants in order of preference: accelerated first, then smallest."""
    if version is None or version.state not in DEPLOYABLE_STATES:
        return None
    variants = (
        Variant.objects.filter(version=version, is_promotable=True, manifest_sha256__isnull=False)
        .annotate(total_bytes=Sum("files__blob__size_bytes"))
        .order_by("pk")
    )

    def preference(variant: Any) -> tuple[bool, int, int]:
        providers = variant.requirements.get("providers") or ["cpu"]
        return ("cpu" in providers, variant.total_bytes or 0, variant.pk)

    return {
        "version": version.version,
        "sequence": version.sequence,
        "variants": [
            {
                "name": variant.name,
                "manifest_sha256": variant.manifest_sha256,
                "requirements": variant.requirements,
            }
            for variant in sorted(variants, key=preference)
        ],
    }
