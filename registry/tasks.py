"""Background work of the registry: ids in, one service call, safe to run twice."""

from celery import shared_task
from django.utils import timezone

from registry.services import (
    audit_anchors,
    blob_uploads,
    deltas,
    garbage,
    trust_renewal,
    versions,
)

DELTAS_PER_RUN = 20
GARBAGE_SECONDS = 60.0


@shared_task(soft_time_limit=150, time_limit=170)
def validate_version(version_id: int) -> None:
    """Makes an uploaded version ready or rejected."""
    versions.validate_version(version_id=version_id)


@shared_task(soft_time_limit=30, time_limit=60)
def sweep_versions() -> int:
    """Starts the validation of versions whose message was lost."""
    waiting = versions.versions_to_validate()
    for version_id in waiting:
        validate_version.delay(version_id)
    return len(waiting)


@shared_task(soft_time_limit=280, time_limit=300)
def make_deltas() -> int:
    """Makes the deltas that wait, one after the other, and forgets those out of use."""
    now = timezone.now()
    deltas.prune_deltas(now=now)
    made = 0
    while made < DELTAS_PER_RUN and deltas.make_next_delta(now=timezone.now()) is not None:
        made += 1
    return made


@shared_task(soft_time_limit=150, time_limit=170)
def renew_trust() -> int:
    """Signs again what is new or old of the online trust metadata."""
    return trust_renewal.renew_online(now=timezone.now())


@shared_task(soft_time_limit=150, time_limit=170)
def collect_garbage() -> int:
    """Removes blobs that nothing has used for a day, for a minute; the next run goes on."""
    return len(garbage.sweep_garbage(now=timezone.now(), seconds=GARBAGE_SECONDS))


@shared_task(soft_time_limit=150, time_limit=170)
def drop_abandoned_uploads() -> int:
    """Forgets uploads that nobody goes on with."""
    return blob_uploads.drop_abandoned(now=timezone.now())


@shared_task(soft_time_limit=60, time_limit=90)
def anchor_audit() -> str | None:
    """Signs the end of the audit chain into the object store."""
    return audit_anchors.anchor_chain(now=timezone.now())
