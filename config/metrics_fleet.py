"""What the stores say of the fleet, measured once for all who ask within half a minute."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, OuterRef, Q, Subquery
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compression.models import Job
from config.background import read_background
from fleet.models import Device, DeviceIncident, Gate, GateEvaluation, Rollout
from ingest.models import InboxBatch, Incident, Summary

KEEP_SECONDS = 30
_KEY = "metrics:fleet"
MOST_ROLLOUTS = 50
"""Told one by one, the newest; the count of all live ones is told beside them."""
FRESH = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": timedelta(days=1)}

#: Name, help and labels of each number; what `measure_fleet` may give.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "aviary_inbox_pending": ("Batches that wait to be counted.", ()),
    "aviary_inbox_oldest_seconds": ("Age of the oldest of them; 0 without any.", ()),
    "aviary_inbox_set_aside": ("Batches that could not be counted.", ()),
    "aviary_summaries_pending": ("Summaries that wait to be counted.", ()),
    "aviary_summaries_oldest_seconds": ("Age of the oldest of them; 0 without any.", ()),
    "aviary_devices": ("Devices by status.", ("status",)),
    "aviary_devices_heard": ("Accepted devices heard of within this time.", ("within",)),
    "aviary_rollouts_live": ("Rollouts that are not over.", ()),
    "aviary_rollout_stage": ("Stage of a live rollout, from 0.", ("rollout", "model", "state")),
    "aviary_gate_verdict": ("1 for the newest verdict.", ("rollout", "metric", "verdict")),
    "aviary_incidents": ("Incidents that are not over.", ("status", "severity")),
    "aviary_device_incidents": ("What devices say is wrong.", ("kind",)),
    "aviary_jobs": ("Compression jobs.", ("state",)),
    "aviary_queue_depth": ("Tasks that wait in the broker.", ("queue",)),
    "aviary_clock_seconds": ("Since the clock last ticked; -1 if unknown.", ()),
}
_Rows = dict[str, list[list[Any]]]


class FleetCollector(Collector):
    """Gives Prometheus what `measure_fleet` found."""

    def collect(self) -> Iterable[Metric]:
        rows = read_fleet()
        for name, (text, labels) in FAMILIES.items():
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in rows.get(name, []):
                family.add_metric([str(value) for value in values], number)
            yield family


def read_fleet() -> _Rows:
    """Name to rows of label values and number, at most half a minute old."""
    rows: _Rows | None = cache.get(_KEY)
    if rows is None:
        rows = measure_fleet(timezone.now())
        cache.set(_KEY, rows, KEEP_SECONDS)
    return rows


def measure_fleet(now: datetime) -> _Rows:
    """The same as of now; a dozen queries, whatever the fleet."""
    background = read_background(now)
    live = Rollout.objects.filter(state__in=Rollout.LIVE_STATES)
    newest = list(live.select_related("deployment__model").order_by("-pk")[:MOST_ROLLOUTS])
    devices = Device.objects.aggregate(
        **{
            name: Count(
                "pk",
                filter=Q(status=Device.Status.ACCEPTED, last_seen_at__gte=now - span),
            )
            for name, span in FRESH.items()
        }
    )
    return {
        "aviary_inbox_pending": [[[], InboxBatch.objects.pending().count()]],
        "aviary_inbox_oldest_seconds": [[[], background.inbox_seconds]],
        "aviary_inbox_set_aside": [[[], InboxBatch.objects.set_aside().count()]],
        "aviary_summaries_pending": [[[], Summary.objects.filter(is_pending=True).count()]],
        "aviary_summaries_oldest_seconds": [[[], background.summaries_seconds]],
        "aviary_devices": _by(Device.objects.all(), "status"),
        "aviary_devices_heard": [[[name], devices[name]] for name in FRESH],
        "aviary_rollouts_live": [[[], live.count()]],
        "aviary_rollout_stage": [
            [[row.pk, row.deployment.model.slug, row.state], row.current_stage] for row in newest
        ],
        "aviary_gate_verdict": _verdicts([row.pk for row in newest]),
        "aviary_incidents": _by(
            Incident.objects.filter(status__in=Incident.OPEN_STATUSES), "status", "severity"
        ),
        "aviary_device_incidents": _by(DeviceIncident.objects.firing(), "kind"),
        "aviary_jobs": _by(Job.objects.all(), "state"),
        "aviary_queue_depth": [[[queue], depth] for queue, depth in _queue_depths().items()],
        "aviary_clock_seconds": [
            [[], -1 if background.clock_seconds is None else background.clock_seconds]
        ],
    }


def _by(rows: Any, *fields: str) -> list[list[Any]]:
    counted = rows.order_by().values_list(*fields).annotate(Count("pk"))
    return [[list(values), number] for *values, number in counted]


def _verdicts(rollouts: list[int]) -> list[list[Any]]:
    newest = GateEvaluation.objects.filter(gate=OuterRef("pk")).order_by("-pk")
    gates = Gate.objects.filter(rollout__in=rollouts).annotate(
        verdict=Subquery(newest.values("verdict")[:1])
    )
    rows = gates.exclude(verdict=None).values_list("rollout_id", "metric", "verdict")
    return [[list(row), 1] for row in rows]


def _queue_depths() -> dict[str, int]:
    """Of the broker's queues; empty where there is none between processes."""
    client = getattr(cache, "client", None)
    if not settings.REDIS_URL or client is None:
        return {}
    queues = sorted({"default", *(r["queue"] for r in settings.CELERY_TASK_ROUTES.values())})
    with client().pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(queue)
        return dict(zip(queues, map(int, pipe.execute()), strict=True))
