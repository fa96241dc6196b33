"""Fleet drift: false alarms, what is found, and day and night, with the product's own rules.

Beside them, on the same counts, what two peers do as they come: Evidently (Jensen-Shannon distance
from 0.1 with more than 1,000 reference rows, else a chi-square test at 5 %) and a rule in the
manner of NannyML (Jensen-Shannon distance beyond three sigma of the first week).
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy import stats
from scipy.spatial import distance

from benchmarks.decisions.fleet_streams import (
    NULL_SETTINGS,
    Setting,
    Shares,
    Table,
    class_mix,
    device_mixes,
    fleet_counts,
    shifted,
)
from ingest.rules.changed_devices import DeviceStory, find_changed_devices
from ingest.rules.fleet_judgement import (
    Judgement,
    Policy,
    judge_changed_devices,
    judge_psi,
    settle_levels,
)
from ingest.rules.incident_rules import Event, Observation, Track, step_alert
from ingest.rules.laws import PlainLaw
from ingest.rules.windows import WindowCounts

POLICY = Policy()
BREACHES = ("warning", "critical")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS_A_DAY, DAYS = 24, 30
_QUIET = Judgement("quiet", status="tested", value=0.0, laws=(PlainLaw(1.0), PlainLaw(1.0)))
FAMILY = 7
"""Metrics judged together; the others are quiet, so the one under test stands alone among them."""


def figures(seconds: float) -> dict[str, float]:
    """All figures, from as many runs as fit into `seconds`."""
    found = null_figures(seconds * 0.35)
    found |= power_figures(seconds * 0.15)
    found |= collapse_figures(seconds * 0.15)
    found |= season_figures(seconds * 0.35)
    return found


def _until(seconds: float, least: int, most: int) -> Iterator[int]:
    """Numbers of runs: at least `least`, then until the time or `most` is reached."""
    end = time.monotonic() + seconds
    for run in range(most):
        if run >= least and time.monotonic() > end:
            return
        yield run


def judge(reference: list[int], table: Table, groups: Table | None = None) -> Judgement:
    """One prediction PSI, judged among quiet metrics as in a real evaluation."""
    item = judge_psi(
        "prediction_psi",
        reference,
        table.tolist(),
        POLICY,
        is_ordered=False,
        reference_groups=None if groups is None else groups.tolist(),
    )
    return settle_levels([item, *[_QUIET] * (FAMILY - 1)])[0]


def draw(
    rng: np.random.Generator, setting: Setting, psi: float = 0.0
) -> tuple[list[int], Table, Table | None]:
    """A reference, the fleet's counts now, and the reference's devices where it has some."""
    p = class_mix(setting.classes)
    groups = None
    if setting.reference_devices:
        groups = fleet_counts(rng, p, setting.reference_devices, setting.reference_records, setting)
        reference = groups.sum(axis=0).tolist()
    else:
        reference = [*rng.multinomial(setting.reference_records, p).tolist(), 0]
    now = fleet_counts(rng, shifted(p, psi, rng), setting.devices, setting.records, setting)
    return reference, now, groups


def evidently(reference: list[int], table: Table) -> bool:
    """Whether Evidently's default for a categorical column calls it drift."""
    now = table.sum(axis=0)
    if sum(reference) > 1000:
        return bool(distance.jensenshannon(reference, now) >= 0.1)
    expected = np.asarray(reference, float) / sum(reference) * now.sum()
    used = expected > 0
    return bool(stats.chisquare(now[used], expected[used] * now[used].sum() / expected[used].sum())
                .pvalue < 0.05)  # fmt: skip


def null_figures(seconds: float, least: int = 40) -> dict[str, float]:
    """The worst share of false alarms over all settings of a fleet at rest."""
    ours: dict[str, float] = {}
    peers: dict[str, float] = {}
    for index, setting in enumerate(NULL_SETTINGS):
        rng = np.random.default_rng(1000 + index)
        alarms = peer = runs = 0
        for _ in _until(seconds / len(NULL_SETTINGS), least, 2000):
            reference, now, groups = draw(rng, setting)
            alarms += judge(reference, now, groups).status in BREACHES
            peer += evidently(reference, now)
            runs += 1
        ours[setting.name], peers[setting.name] = 100 * alarms / runs, 100 * peer / runs
    return {
        "fleet_false_alarm_percent_max": max(ours.values()),
        "evidently_false_alarm_percent_max": max(peers.values()),
    }


def power_figures(seconds: float, least: int = 100) -> dict[str, float]:
    """How often a true PSI of 0.25 is found at 500 effective records in ten classes."""
    rng = np.random.default_rng(2)
    hits = peer = runs = 0
    for _ in _until(seconds, least, 2000):
        reference, now, _groups = draw(rng, Setting("", records=500), psi=0.25)
        hits += judge(reference, now).status in BREACHES
        peer += evidently(reference, now)
        runs += 1
    return {
        "fleet_power_psi025_neff500_percent": 100 * hits / runs,
        "evidently_power_psi025_neff500_percent": 100 * peer / runs,
    }


def collapse_figures(seconds: float, least: int = 20) -> dict[str, float]:
    """How often it is found that every record of 5 % of 400 unlike devices is of one class."""
    rng = np.random.default_rng(3)
    hits = peer = runs = 0
    for _ in _until(seconds, least, 500):
        told, reference = collapsed_fleet(rng, devices=400, share=0.05)
        hits += judge_devices(told).status in BREACHES
        now = np.array([story.current.classes for story in told])
        peer += evidently(reference, now)
        runs += 1
    return {
        "fleet_five_percent_collapse_found_percent": 100 * hits / runs,
        "evidently_five_percent_collapse_found_percent": 100 * peer / runs,
    }


def collapsed_fleet(
    rng: np.random.Generator, devices: int, share: float, records: int = 20, days: int = 3
) -> tuple[list[DeviceStory], list[int]]:
    """Devices with a few days of their own past, of which the first `share` collapsed today."""
    p = class_mix(10)
    mixes = device_mixes(rng, p, devices, 10.0)
    bad, one = round(share * devices), int(rng.integers(10))
    told = []
    for index, mix in enumerate(mixes):
        parts = [_window(rng.multinomial(records, mix)) for _ in range(days + 1)]
        if index < bad:
            parts[0] = _window(records * np.eye(10, dtype=int)[one])
        told.append(DeviceStory(parts[0], parts[1:]))
    return told, [*rng.multinomial(5000, p).tolist(), 0]


def _window(counts: Table) -> WindowCounts:
    return WindowCounts(n=int(counts.sum()), classes=[*counts.tolist(), 0])


def judge_devices(told: list[DeviceStory]) -> Judgement:
    """The share of changed devices, judged."""
    changes = find_changed_devices(told, error_limit=0.01, latency_ratio=1.25)
    return settle_levels([judge_changed_devices(changes, POLICY)])[0]


def season_figures(seconds: float, least: int = 2) -> dict[str, float]:
    """Day and night differ by a PSI of 0.3 for 30 days; then a real one of 0.3 on day 20.

    False incidents are per month; the delay is the mean of the hours until the incident fires. A
    change that is never found counts as the ten days that are left.
    """
    incidents: list[int] = []
    delays: list[float] = []
    peer_incidents: list[int] = []
    peer_delays: list[float] = []
    for run in _until(seconds, least, 50):
        rng = np.random.default_rng(4000 + run)
        quiet = season(rng, onset=None)
        incidents.append(count_incidents(quiet, our_rule(POLICY.lookback_windows)))
        peer_incidents.append(count_incidents(quiet, nannyml_rule()))
        onset = 20 * HOURS_A_DAY + int(rng.integers(24))
        real = season(rng, onset)
        delays.append(delay_hours(real, our_rule(POLICY.lookback_windows), onset))
        peer_delays.append(delay_hours(real, nannyml_rule(), onset))
    return {
        "season_false_incidents_month": float(np.mean(incidents)),
        "season_delay_hours": float(np.mean(delays)),
        "nannyml_season_false_incidents_month": float(np.mean(peer_incidents)),
        "nannyml_season_delay_hours": float(np.mean(peer_delays)),
    }


Season = tuple[list[int], list[Table]]
Rule = Callable[[list[int], list[Table]], Iterator[Observation]]


def season(rng: np.random.Generator, onset: int | None, devices: int = 50) -> Season:
    """A reference of whole days, and hourly counts of `devices` that send 20 records an hour."""
    p = class_mix(10)
    day = shifted(p, 0.075, rng)
    # The mirror image: night differs from the day's mix by about four times that PSI, 0.3.
    night = p**2 / day
    night /= night.sum()
    both = (day + night) / 2
    drift = shifted(both, 0.3, rng) / both
    hours = []
    for hour in range(DAYS * HOURS_A_DAY):
        mix: Shares = day if 6 <= hour % 24 < 18 else night
        if onset is not None and hour >= onset:
            mix = mix * drift / (mix * drift).sum()
        own = device_mixes(rng, mix, devices, 50.0)
        hours.append(np.array([[*rng.multinomial(20, shares).tolist(), 0] for shares in own]))
    return [*rng.multinomial(5000, both).tolist(), 0], hours


def our_rule(lookback: int) -> Rule:
    """The product's: the last `lookback` hours against the reference."""

    def observe(reference: list[int], hours: list[Table]) -> Iterator[Observation]:
        for end in range(1, len(hours) + 1):
            table = np.sum(hours[max(0, end - lookback) : end], axis=0)
            found = judge(reference, table)
            is_judged = found.status not in ("insufficient", "no_reference")
            yield Observation(
                found.value if is_judged else None,
                found.threshold or 0.0,
                found.status in BREACHES,
                found.status == "critical",
            )

    return observe


def nannyml_rule() -> Rule:
    """Hourly Jensen-Shannon distance beyond three sigma of the first week."""

    def observe(reference: list[int], hours: list[Table]) -> Iterator[Observation]:
        values = [float(distance.jensenshannon(reference, rows.sum(axis=0))) for rows in hours]
        week = values[: 7 * HOURS_A_DAY]
        limit = float(np.mean(week) + 3 * np.std(week))
        for value in values:
            yield Observation(value, limit, value > limit)

    return observe


def _fired(told: Season, rule: Rule) -> list[int]:
    """The hours at which an incident fires or reopens."""
    track: Track | None = None
    fired = []
    reference, hours = told
    for hour, seen in enumerate(rule(reference, hours)):
        track, event = step_alert(track, seen, START + timedelta(hours=hour))
        if event in (Event.FIRED, Event.REOPENED):
            fired.append(hour)
    return fired


def count_incidents(told: Season, rule: Rule) -> int:
    """How many incidents fire, reopened ones included."""
    return len(_fired(told, rule))


def delay_hours(told: Season, rule: Rule, onset: int) -> float:
    """Hours from `onset` to the incident; the rest of the time when there is none."""
    after = [hour for hour in _fired(told, rule) if hour >= onset]
    end = after[0] + 1 if after else len(told[1])
    return float(end - onset)


if __name__ == "__main__":
    for _name, _value in figures(120.0).items():
        print(f"{_name:50s} {_value:8.2f}")
