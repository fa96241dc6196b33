"""What devices did before the judged period, for the test of each against its own past."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db.models import Min, Q

from ingest.models import Incident, IncidentFinding, Window
from ingest.rules.changed_devices import DeviceStory
from ingest.rules.same_hours import LONG_WINDOWS, PREFIX, Hours, days_back
from ingest.rules.windows import WindowCounts, sum_counts

DAY = timedelta(days=1)
DAYS_BEFORE = 3
SPANS_BEFORE = 8
"""Spans before the period that stand in where there are no days before."""
MOST_DEVICES = 1000
"""Devices tested each by itself; a hash chooses them, so that they stay the same ones."""
MOST_IN_HOURS = 500


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
    chosen = _sample(devices)
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


def same_hours(
    version_id: int, devices: Iterable[int], end: datetime, window: timedelta
) -> list[dict[int, Hours]]:
    """Device row id to its counts of the last windows up to `end`, and of each day before.

    The first is now, the others are the days of `days_back`. One query for at most
    MOST_IN_HOURS devices, the same ones every time.
    """
    chosen = _sample(devices, MOST_IN_HOURS)
    # Only what these comparisons found themselves: another incident may stand for months.
    found = IncidentFinding.objects.filter(
        version_id=version_id, metric__startswith=PREFIX, status__in=Incident.OPEN_STATUSES
    ).aggregate(Min("opened_at"))["opened_at__min"]
    onset = None if found is None else found - 2 * window
    ends = [end, *(end - back for back in days_back(end, onset, window))]
    spans = []
    for at in ends:
        spans += [(at - window, at), (at - LONG_WINDOWS * window, at - window)]
    sums = _sums(version_id, chosen, spans)
    last, nothing = len(spans) - 1, WindowCounts()
    told = []
    for day in range(len(ends)):
        # Numbers of spans count from the earliest.
        number, before = last - 2 * day, last - 2 * day - 1
        told.append(
            {
                device: Hours(parts.get(number, nothing), parts.get(before, nothing))
                for device, parts in sums.items()
                if number in parts or before in parts
            }
        )
    return told


def _sample(devices: Iterable[int], most: int = MOST_DEVICES) -> list[int]:
    ids = sorted(devices)
    if len(ids) <= most:
        return ids
    ids.sort(key=lambda pk: hashlib.sha256(str(pk).encode()).digest())
    return sorted(ids[:most])


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
