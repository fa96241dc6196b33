"""The last hours against the same hours of each of the days before: what a season cannot explain.

Day and night, shifts and weekends make the same hours of some days alike. So the hours are compared
with each of the last days by itself, and only what differs from *every one* of them is a finding:
an intersection-union test (Berger, Technometrics 24, 1982), which keeps the level of one comparison
however many days there are. It sees within hours what a look-back of a day dilutes; slow changes it
does not see, and the comparison with the reference stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ingest.rules import bins
from ingest.rules.clustering import describe_side
from ingest.rules.clusters import Clusters, clusters_of_rows
from ingest.rules.judgement import Judgement, Policy
from ingest.rules.psi_judgement import judge_psi
from ingest.rules.windows import WindowCounts, merge_counts

PREFIX = "same_hours_psi"
DAY = timedelta(days=1)
DAYS = 7
"""Days back, so that a Sunday has a Sunday."""
LEAST_DAYS = 3
LONG_WINDOWS = 4
"""Windows compared where the last one alone holds fewer effective records than `ENOUGH`."""
ENOUGH = 500
_OPEN = 0.01
"""A day with a p-value above it is no finding, so those before it need not be looked at."""
_COUNTS = {"prediction": "classes", "confidence": "confidence"}
PARTS = frozenset(_COUNTS.values())
"""Of counts, those that are compared."""


@dataclass(frozen=True)
class Hours:
    """A device's counts of the last window and of the `LONG_WINDOWS` - 1 before it."""

    last: WindowCounts
    before: WindowCounts


@dataclass(frozen=True)
class FleetHours:
    """The same of all devices: of the last window, and of all `LONG_WINDOWS` together."""

    last: Clusters
    long: Clusters

    def counts(self, is_long: bool) -> Clusters:
        return self.long if is_long else self.last


def _fleet_hours(hours: FleetHours | Sequence[Hours]) -> FleetHours:
    if isinstance(hours, FleetHours):
        return hours
    return FleetHours(
        clusters_of_rows([one.last for one in hours]),
        clusters_of_rows([merge_counts(one.last, one.before) for one in hours]),
    )


def days_back(end: datetime, onset: datetime | None, window: timedelta) -> list[timedelta]:
    """How far back the days lie that hours ending at `end` are compared with, the latest first.

    What is wrong now must not become what is usual: while an incident is open, the days are those
    that end before its `onset`, by the windows that finding it may have taken.
    """
    first = 1
    if onset is not None:
        wrong = end - (onset - LONG_WINDOWS * window)
        first = max(1, -(-wrong // DAY))
    return [day * DAY for day in range(first, first + DAYS)]


def judge_same_hours(
    now: FleetHours | Sequence[Hours],
    days: Sequence[FleetHours | Sequence[Hours]],
    policy: Policy,
    labels: Sequence[str] = (),
    only: str | None = None,
) -> list[Judgement]:
    """`same_hours_psi:prediction` and `…:confidence`, not yet given a level; none without a past.

    Args:
        now: the counts of the last hours, of each device or of the fleet.
        days: the same of each day before, the latest first; a day without records is empty.
        policy: the limits.
        labels: of the classes, the one for all others last.
        only: the one metric that is asked for; None for both.
    """
    told, before = _fleet_hours(now), [_fleet_hours(day) for day in days]
    judged = []
    for name, part in _COUNTS.items():
        if only not in (None, f"{PREFIX}:{name}"):
            continue
        table = told.last.table(part)
        is_long = not table.size or describe_side(table, table.sum(axis=0)).n_eff < ENOUGH
        current = told.counts(is_long)
        past = [day.counts(is_long) for day in before]
        past = [day for day in past if day.table(part).sum() > 0]
        if not past or not current.table(part).sum():
            continue
        found = _judge(current, past, name, policy, labels)
        told_of = {"days": len(past), "windows": LONG_WINDOWS if is_long else 1}
        judged.append(replace(found, details={**found.details, **told_of}))
    return judged


def _judge(
    now: Clusters,
    past: Sequence[Clusters],
    name: str,
    policy: Policy,
    labels: Sequence[str],
) -> Judgement:
    """The day that differs least, of those that must be looked at."""
    metric, part, is_class = f"{PREFIX}:{name}", _COUNTS[name], name == "prediction"
    least: Judgement | None = None
    least_p, tested = -1.0, 0
    for day in past:
        item = judge_psi(
            metric,
            [round(count) for count in day.table(part).sum(axis=0)],
            now.table(part),
            policy,
            is_ordered=not is_class,
            labels=labels if is_class and labels else None,
            positions=None if is_class else bins.confidence_midpoints(),
            reference_groups=day.table(part),
            devices=now.devices if now.is_grouped else None,
        )
        if item.laws is None:
            least = least or item
            continue
        tested += 1
        p = item.laws[0].p_value(item.value or 0.0)
        if p > least_p:
            least, least_p = item, p
        if p > _OPEN and tested >= LEAST_DAYS:
            break
    assert least is not None
    if tested >= LEAST_DAYS:
        return least
    reason = least.details.get("reason") or f"{tested} of {LEAST_DAYS} days with these hours"
    details = {**least.details, "reason": reason}
    return replace(least, status="insufficient", laws=None, is_enough=False, details=details)
