"""The overview: what the fleet runs, what needs a person and what is moving."""

from collections import Counter
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from config.background import read_background
from fleet.models import Device, DeviceIncident, Quarantine, Rollout
from ingest.models import InboxBatch, Incident, RejectedRecord
from registry.models import Variant
from registry.units import write_count

#: A device not heard from for this long counts as silent.
FRESH = timedelta(minutes=10)
#: Rows shown in each list of the page; the full lists are one click away.
LIST_ROWS = 8


def running_shares() -> list[dict[str, Any]]:
    """What accepted devices report to run, most common first, with the share in percent."""
    counts: Counter[str] = Counter()
    devices = 0
    rows = Device.objects.filter(status=Device.Status.ACCEPTED).values_list("running", flat=True)
    for running in rows.iterator(chunk_size=5000):
        devices += 1
        counts.update(running.values() if running else [""])
    known = {
        variant.manifest_sha256: variant
        for variant in Variant.objects.filter(
            manifest_sha256__in=[d for d in counts if d]
        ).select_related("version__model")
    }
    shares = []
    for digest, count in counts.most_common(LIST_ROWS):
        variant = known.get(digest)
        if variant is not None:
            name = f"{variant.version.model.slug} {variant.version.version} · {variant.name}"
        else:
            name = f"unknown {digest[:12]}" if digest else "nothing yet"
        shares.append({"name": name, "count": count, "percent": 100.0 * count / devices})
    return shares


def things_to_do() -> list[dict[str, str]]:
    """What waits for a person, each with the page that settles it."""
    todo: list[dict[str, str]] = []
    pending = Device.objects.filter(status=Device.Status.PENDING).count()
    if pending:
        todo.append(
            {
                "text": f"{write_count(pending, 'device')} pending acceptance",
                "url": reverse("admin:fleet_device_changelist") + "?status__exact=pending",
            }
        )
    waiting = Rollout.objects.filter(
        Q(state=Rollout.State.AWAITING_APPROVAL) | Q(state=Rollout.State.PAUSED)
    ).select_related("target_version__model")
    for rollout in waiting[:LIST_ROWS]:
        text = f"rollout {rollout.pk} to {rollout.target_version}: {rollout.get_state_display()}"
        todo.append(
            {
                "text": f"{text} · {rollout.reason}" if rollout.reason else text,
                "url": reverse("admin:fleet_rollout_change", args=[rollout.pk]),
            }
        )
    background = read_background(timezone.now())
    if background.is_inbox_stuck:
        oldest = max(background.inbox_seconds, background.summaries_seconds)
        text = f"records wait for {oldest / 60:.0f} min to be counted: too few workers, or none"
        url = reverse("admin:ingest_inboxbatch_changelist") + "?state__exact=pending"
        todo.append({"text": text, "url": url})
    aside = InboxBatch.objects.set_aside().count()
    if aside:
        batches = "batches" if aside != 1 else "batch"
        todo.append(
            {
                "text": f"{aside} {batches} of records could not be counted",
                "url": reverse("admin:ingest_inboxbatch_changelist") + "?state__exact=failed",
            }
        )
    drifting = DeviceIncident.objects.firing().filter(kind=DeviceIncident.Kind.DRIFT)
    count = drifting.values("device").distinct().count()
    if count:
        todo.append(
            {
                "text": f"{write_count(count, 'device')} with drift, by what they judge",
                "url": reverse("admin:fleet_device_changelist") + "?firing=drift",
            }
        )
    firing = Incident.objects.filter(status="firing").select_related("model", "version__model")
    for incident in firing[:LIST_ROWS]:
        words = f"{incident.metric} of {incident.model.slug}, {incident.slice}"
        if incident.headline:
            words = f"{incident.model.slug}: {incident.headline}"
        todo.append(
            {
                "text": f"{incident.severity}: {words}",
                "url": reverse("admin:ingest_incident_change", args=[incident.pk]),
            }
        )
    return todo


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds the overview's figures to the admin's index page."""
    now = timezone.now()
    devices = Device.objects.aggregate(
        total=Count("pk"),
        accepted=Count("pk", filter=Q(status=Device.Status.ACCEPTED)),
        fresh=Count("pk", filter=Q(last_seen_at__gte=now - FRESH)),
    )
    records = InboxBatch.objects.filter(received_at__gte=now - timedelta(hours=24)).aggregate(
        accepted=Sum("accepted"), batches=Count("pk")
    )
    last_minutes = InboxBatch.objects.filter(received_at__gte=now - timedelta(minutes=5)).aggregate(
        accepted=Sum("accepted")
    )
    context["overview"] = {
        "devices": devices,
        "quarantined": Quarantine.objects.filter(cleared_at__isnull=True).count(),
        "fresh_percent": 100.0 * devices["fresh"] / devices["total"] if devices["total"] else None,
        "running": running_shares(),
        "todo": things_to_do(),
        "rollouts": Rollout.objects.select_related(
            "deployment", "target_version__model", "previous_version"
        ).order_by("-pk")[:LIST_ROWS],
        "incidents": Incident.objects.exclude(status__in=["resolved", "pending"])
        .select_related("model", "version__model")
        .order_by("-pk")[:LIST_ROWS],
        "records_day": records["accepted"] or 0,
        "batches_day": records["batches"],
        "records_per_minute": (last_minutes["accepted"] or 0) / 5,
        "rejects_day": RejectedRecord.objects.filter(
            batch__received_at__gte=now - timedelta(hours=24)
        ).count(),
        "at": now,
    }
    return context
