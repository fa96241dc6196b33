"""The plan of a model and its rising counter, kept in step."""

from __future__ import annotations

import hashlib
import logging

from django.core.cache import cache
from django.db import transaction

from fleet.models import Deployment, Plan
from fleet.polling.changes import announce_change
from fleet.polling.plans import build_plan
from registry.manifest import canonical_bytes

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 300
_SWEPT = "fleet:plans:swept"


@transaction.atomic
def refresh_plan(*, model_id: int) -> Plan:
    """The model's plan, whose counter rises when the content is no longer what it was.

    Called in the transaction of everything that can change an assignment; a sweep calls it for
    changes made in the registry, such as a new variant or a withdrawn version.
    """
    Plan.objects.get_or_create(model_id=model_id)
    row = Plan.objects.select_for_update().get(model_id=model_id)
    content = build_plan(model_id=model_id)
    digest = hashlib.sha256(canonical_bytes(content)).hexdigest()
    if digest != row.digest:
        row.counter += 1
        row.content = content
        row.digest = digest
        row.save()
        slug = content["model"]
        transaction.on_commit(lambda: announce_change(f"plan:{slug}"))
        logger.info("Plan of model %s is now number %s", slug, row.counter)
    return row


def refresh_all_plans() -> None:
    """Brings every plan up to date with the registry."""
    for model_id in Deployment.objects.values_list("model_id", flat=True).distinct():
        refresh_plan(model_id=model_id)


def refresh_due_plans() -> None:
    """The same, once in five minutes.

    Whatever changes an assignment refreshes its plan itself; this finds what did not, such as a
    measurement of a variant.
    """
    if cache.add(_SWEPT, 1, SWEEP_SECONDS):
        refresh_all_plans()
