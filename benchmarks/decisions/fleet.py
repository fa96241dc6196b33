"""Fleet drift: false alarms and what is found, with the product's own rules.

Beside them, on the same counts, what Evidently does as it comes: Jensen-Shannon distance from 0.1
with more than 1,000 reference rows, else a chi-square test at 5 %.
"""

import time
from collections.abc import Iterator

import numpy as np
from scipy import stats
from scipy.spatial import distance

from benchmarks.decisions.fleet_streams import (
    NULL_SETTINGS,
    Setting,
    Table,
    class_mix,
    device_mixes,
    fleet_counts,
    shifted,
)
from ingest.rules.changed_devices import DeviceStory, find_changed_devices
from ingest.rules.clusters import gather_table
from ingest.rules.fleet_judgement import (
    Judgement,
    Policy,
    judge_changed_devices,
    judge_psi,
    settle_levels,
)
from ingest.rules.laws import PlainLaw
from ingest.rules.windows import WindowCounts

POLICY = Policy()
BREACHES = ("warning", "critical")
QUIET = Judgement("quiet", status="tested", value=0.0, laws=(PlainLaw(1.0), PlainLaw(1.0)))
FAMILY = 9
"""Metrics judged together; the others are quiet, so the one under test stands alone among them."""


def figures(seconds: float) -> dict[str, float]:
    """All figures, from as many runs as fit into `seconds`."""
    found = null_figures(seconds * 0.5)
    found |= power_figures(seconds * 0.25)
    found |= collapse_figures(seconds * 0.25)
    return found


def until(seconds: float, least: int, most: int) -> Iterator[int]:
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
        gather_table(table).tolist(),
        POLICY,
        is_ordered=False,
        reference_groups=None if groups is None else gather_table(groups).tolist(),
        devices=len(table),
    )
    return settle_levels([item, *[QUIET] * (FAMILY - 1)])[0]


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
        for _ in until(seconds / len(NULL_SETTINGS), least, 2000):
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
    for _ in until(seconds, least, 2000):
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
    for _ in until(seconds, least, 500):
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


if __name__ == "__main__":
    for _name, _value in figures(120.0).items():
        print(f"{_name:50s} {_value:8.2f}")
