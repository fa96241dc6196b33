"""What devices did before the judged period, for the test of each against its own past."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db.models import Q

from ingest.models import Incident, Window
from ingest.rules.changed_devices import DeviceStory
from ingest.rules.windows import WindowCounts, sum_counts

DAY = timedelta(days=1)
DAYS_BEFORE = 3
SPANS_BEFORE = 8
"""Spans before the period that stand in where there are no days before."""
MOST_DEVICES = 1000
"""Devices tested each by itself."""


def device_stories(
    version_id: int,
    devices: Mapping[int, WindowCounts],
    start: datetime,
    end: datetime,
) -> dict[int, DeviceStory]:
    """Device row id to its counts of [start, end) and, in parts, of the same hours before.

    While an incident of the version is open, the past ends where the incident began: what is
    wrong now must not become what is usual.
    """
    chosen = sorted(devices)
    span = end - start
    # The onset lies somewhere in the first period that was in breach.
    until = min([start, *(onset - span for onset in _onsets(version_id))])
    spans = _spans(start, end, until)
    parts = _sums(version_id, chosen, spans)
    missing = [device for device in chosen if device not in parts]
    if missing:
        before = [(until - (n + 1) * span, until - n * span) for n in range(SPANS_BEFORE)]
        parts |= _sums(version_id, missing, before)
    return {
        device: DeviceStory(
            devices[device], [counts for _, counts in sorted(parts[device].items())]
        )
        if device in parts
        else DeviceStory(devices[device])
        for device in chosen
    }


def sum_devices(
    version_id: int, devices: list[int], start: datetime, end: datetime
) -> dict[int, WindowCounts]:
    """Device row id to its counts of [start, end), of those that have any."""
    return {
        device: parts[0] for device, parts in _sums(version_id, devices, [(start, end)]).items()
    }


def _onsets(version_id: int) -> list[datetime]:
    rows = Incident.objects.filter(version_id=version_id, status__in=Incident.OPEN_STATUSES)
    return [row.began_at for row in rows.only("onset_at", "opened_at")]


def _spans(start: datetime, end: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """The same hours of the days before `until`."""
    days = max(1, -(-(end - until) // DAY)) if until < start else max(1, -(-(end - start) // DAY))
    shift = days * DAY
    spans = []
    for _ in range(DAYS_BEFORE):
        spans.append((start - shift, end - shift))
        shift += max(1, -(-(end - start) // DAY)) * DAY
    return spans


def _sums(
    version_id: int, devices: list[int], spans: list[tuple[datetime, datetime]]
) -> dict[int, dict[int, WindowCounts]]:
    """Device to span number to counts; spans without records are absent."""
    inside = Q()
    for a, b in spans:
        inside |= Q(start__gte=a, start__lt=b)
    rows = Window.objects.filter(inside, version_id=version_id, device_id__in=devices)
    found: dict[int, dict[int, list[WindowCounts]]] = defaultdict(lambda: defaultdict(list))
    values = rows.order_by().values_list("device_id", "start", "counts")
    for device, at, counts in values.iterator(chunk_size=2000):
        # The earliest span first, so that halves of the past are earlier and later.
        number = next(i for i, (a, b) in enumerate(reversed(spans)) if a <= at < b)
        found[device][number].append(WindowCounts.from_json(counts))
    return {
        device: {number: sum_counts(parts) for number, parts in numbers.items()}
        for device, numbers in found.items()
    }
