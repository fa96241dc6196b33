"""The last hours against the same hours of each of the days before: what a season cannot explain.

Day and night, shifts and weekends make the same hours of some days alike. So the hours are compared
with each of the last days by itself, and only what differs from *every one* of them is a finding:
an intersection-union test (Berger, Technometrics 24, 1982), which keeps the level of one comparison
however many days there are. It sees within hours what a look-back of a day dilutes; slow changes it
does not see, and the comparison with the reference stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ingest.rules import bins
from ingest.rules.clustering import describe_side
from ingest.rules.judgement import Judgement, Policy, counts_table
from ingest.rules.psi_judgement import judge_psi
from ingest.rules.windows import WindowCounts, merge_counts, sum_counts

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
_COUNTS: dict[str, Callable[[WindowCounts], list[int]]] = {
    "prediction": lambda counts: counts.classes,
    "confidence": lambda counts: counts.confidence,
}


@dataclass(frozen=True)
class Hours:
    """A device's counts of the last window and of the `LONG_WINDOWS` - 1 before it."""

    last: WindowCounts
    before: WindowCounts

    def counts(self, is_long: bool) -> WindowCounts:
        return merge_counts(self.last, self.before) if is_long else self.last


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
    now: Sequence[Hours],
    days: Sequence[Sequence[Hours]],
    policy: Policy,
    labels: Sequence[str] = (),
) -> list[Judgement]:
    """`same_hours_psi:prediction` and `…:confidence`, not yet given a level; none without a past.

    Args:
        now: each device's counts of the last hours.
        days: the same of each day before, the latest first; a day without records is empty.
        policy: the limits.
        labels: of the classes, the one for all others last.
    """
    judged = []
    for name, read in _COUNTS.items():
        rows = [read(hours.last) for hours in now]
        width = max(map(len, rows), default=0)
        table = counts_table(rows, width)
        is_long = not width or describe_side(table, table.sum(axis=0)).n_eff < ENOUGH
        current = [hours.counts(is_long) for hours in now]
        past = [[hours.counts(is_long) for hours in day] for day in days]
        past = [day for day in past if _has_records(day, read)]
        if not past or not _has_records(current, read):
            continue
        found = _judge([read(counts) for counts in current], past, name, policy, labels)
        told = {"days": len(past), "windows": LONG_WINDOWS if is_long else 1}
        judged.append(replace(found, details={**found.details, **told}))
    return judged


def _has_records(day: Sequence[WindowCounts], read: Callable[[WindowCounts], list[int]]) -> bool:
    return any(sum(read(counts)) for counts in day)


def _judge(
    now: Sequence[Sequence[int]],
    past: Sequence[Sequence[WindowCounts]],
    name: str,
    policy: Policy,
    labels: Sequence[str],
) -> Judgement:
    """The day that differs least, of those that must be looked at."""
    metric, read, is_class = f"{PREFIX}:{name}", _COUNTS[name], name == "prediction"
    least: Judgement | None = None
    least_p, tested = -1.0, 0
    for day in past:
        item = judge_psi(
            metric,
            read(sum_counts(day)),
            now,
            policy,
            is_ordered=not is_class,
            labels=labels if is_class and labels else None,
            positions=None if is_class else bins.confidence_midpoints(),
            reference_groups=[read(counts) for counts in day],
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
