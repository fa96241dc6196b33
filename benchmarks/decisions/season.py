"""Day and night: months of them that raise nothing, and a real change that is found in them.

Day and night differ by a PSI of 0.3, dawn and dusk come up to half an hour early or late; 50
devices of their own send 20 records an hour. Beside the product's rules, on the same counts, a rule
in the manner of NannyML: hourly Jensen-Shannon distance beyond three sigma of the first week.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.spatial import distance

from benchmarks.decisions.fleet import BREACHES, FAMILY, POLICY, QUIET, judge, until
from benchmarks.decisions.fleet_streams import Table, class_mix, device_mixes, shifted
from ingest.rules.incident_rules import Event, Observation, Status, Track, step_alert
from ingest.rules.judgement import Judgement
from ingest.rules.levels import settle_levels
from ingest.rules.same_hours import LONG_WINDOWS, Hours, days_back, judge_same_hours
from ingest.rules.windows import WindowCounts

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURS_A_DAY, DAYS = 24, 30
DAWN, DUSK = 6.0, 18.0
OPEN = {Status.PENDING, Status.FIRING, Status.ACKNOWLEDGED, Status.NO_DATA}

Season = tuple[list[int], list[Table]]
Rule = Callable[[list[int], list[Table]], Iterator[Observation]]


def figures(seconds: float, least: int = 2) -> dict[str, float]:
    """Day and night for 30 days; then a real change of PSI 0.3 on day 20.

    False incidents are per month; the delay is the mean of the hours until the incident fires. A
    change that is never found counts as the ten days that are left.
    """
    incidents: list[int] = []
    delays: list[float] = []
    peer_incidents: list[int] = []
    peer_delays: list[float] = []
    for run in until(seconds, least, 50):
        rng = np.random.default_rng(4000 + run)
        quiet = season(rng, onset=None)
        incidents.append(count_incidents(quiet, *OURS))
        peer_incidents.append(count_incidents(quiet, nannyml))
        onset = 20 * HOURS_A_DAY + int(rng.integers(24))
        real = season(rng, onset)
        delays.append(delay_hours(real, onset, *OURS))
        peer_delays.append(delay_hours(real, onset, nannyml))
    return {
        "season_false_incidents_month": float(np.mean(incidents)),
        "season_delay_hours": float(np.mean(delays)),
        "season_months_simulated": float(len(incidents)),
        "nannyml_season_false_incidents_month": float(np.mean(peer_incidents)),
        "nannyml_season_delay_hours": float(np.mean(peer_delays)),
    }


def season(rng: np.random.Generator, onset: int | None, devices: int = 50) -> Season:
    """A reference of whole days, and hourly counts of `devices` that send 20 records an hour."""
    p = class_mix(10)
    day = shifted(p, 0.075, rng)
    # The mirror image: night differs from the day's mix by about four times that PSI, 0.3.
    night = p**2 / day
    night /= night.sum()
    both = (day + night) / 2
    drift = shifted(both, 0.3, rng) / both
    dawn, dusk = DAWN, DUSK
    hours = []
    for hour in range(DAYS * HOURS_A_DAY):
        at = hour % 24
        if at == 0:
            dawn, dusk = np.array([DAWN, DUSK]) + rng.uniform(-0.5, 0.5, 2)
        light = float(np.clip(min(at + 1, dusk) - max(at, dawn), 0.0, 1.0))
        mix = light * day + (1 - light) * night
        if onset is not None and hour >= onset:
            mix = mix * drift / (mix * drift).sum()
        own = device_mixes(rng, mix, devices, 50.0)
        hours.append(np.array([[*rng.multinomial(20, shares).tolist(), 0] for shares in own]))
    return [*rng.multinomial(5000, both).tolist(), 0], hours


def look_back(reference: list[int], hours: list[Table]) -> Iterator[Observation]:
    """The product's: the last day against the reference."""
    for end in range(1, len(hours) + 1):
        table = np.sum(hours[max(0, end - POLICY.lookback_windows) : end], axis=0)
        yield _observe(judge(reference, table))


def same_hours(_reference: list[int], hours: list[Table]) -> Iterator[Observation]:
    """The product's: the last hours against the same ones of the days before."""
    track: Track | None = None
    onset: datetime | None = None
    for end in range(1, len(hours) + 1):
        at = START + end * HOUR
        ends = [end - back // HOUR for back in days_back(at, onset, HOUR)]
        days = [_hours(hours, one) for one in ends if one >= LONG_WINDOWS]
        judged = judge_same_hours(_hours(hours, end), days, POLICY) if end >= LONG_WINDOWS else []
        item = settle_levels([*judged, *[QUIET] * (FAMILY - len(judged))])[0]
        seen = _observe(item) if judged else Observation(None, 0.0, False)
        track, _ = step_alert(track, seen, at)
        is_open = track is not None and track.status in OPEN
        onset = (onset or at - 2 * HOUR) if is_open else None
        yield seen


def _hours(hours: list[Table], end: int) -> list[Hours]:
    last, before = hours[end - 1], np.sum(hours[end - LONG_WINDOWS : end - 1], axis=0)
    return [Hours(_counts(a), _counts(b)) for a, b in zip(last, before, strict=True)]


def _counts(row: Table) -> WindowCounts:
    return WindowCounts(n=int(row.sum()), classes=row.tolist(), confidence=[])


def _observe(found: Judgement) -> Observation:
    is_judged = found.status not in ("insufficient", "no_reference")
    return Observation(
        found.value if is_judged else None,
        found.threshold or 0.0,
        found.status in BREACHES,
        found.status == "critical",
    )


OURS: tuple[Rule, ...] = (look_back, same_hours)


def nannyml(reference: list[int], hours: list[Table]) -> Iterator[Observation]:
    """Hourly Jensen-Shannon distance beyond three sigma of the first week."""
    values = [float(distance.jensenshannon(reference, rows.sum(axis=0))) for rows in hours]
    week = values[: 7 * HOURS_A_DAY]
    limit = float(np.mean(week) + 3 * np.std(week))
    for value in values:
        yield Observation(value, limit, value > limit)


def _fired(told: Season, rules: tuple[Rule, ...]) -> list[int]:
    """The hours at which a finding of one of the rules fires or reopens."""
    reference, hours = told
    fired = []
    for rule in rules:
        track: Track | None = None
        for hour, seen in enumerate(rule(reference, hours)):
            track, event = step_alert(track, seen, START + hour * HOUR)
            if event in (Event.FIRED, Event.REOPENED):
                fired.append(hour)
    return sorted(fired)


def count_incidents(told: Season, *rules: Rule) -> int:
    """How many findings fire, reopened ones included."""
    return len(_fired(told, rules))


def delay_hours(told: Season, onset: int, *rules: Rule) -> float:
    """Hours from `onset` to the first that fires; the rest of the time when none does."""
    after = [hour for hour in _fired(told, rules) if hour >= onset]
    end = after[0] + 1 if after else len(told[1])
    return float(end - onset)
