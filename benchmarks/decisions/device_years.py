"""Device-years of on-device drift, thousands of looks at a time.

A device learns its past with the agent's own `DriftMonitor`, record by record, for the day that it
takes. Then its past stays, and what follows is the same arithmetic on each look: here it is done
for all looks of half a year at once, by formulas that a test holds equal to the monitor's. A look
is as short as it may be; the monitor waits longer where runs are long, which is quieter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decisions.device import (
    HALF_DAY_S,
    LATENCY_LOWEST_MS,
    LATENCY_STEP,
    YEAR_S,
    Device,
    Stream,
)
from edge_agent.observation.distances import PRIOR, REFERENCE_FLOOR, psi_bias
from edge_agent.observation.drift import PAST_SECONDS, DriftMonitor
from edge_agent.observation.evidence import CONFIDENCE_BINS, FAR_STD, LATENCY_BINS, Evidence

Floats = NDArray[np.float64]
LIFE_S = 180 * 86_400.0
LEARNING_S = 2 * PAST_SECONDS
RECORDS_AT_ONCE = 2_000_000


def count_alarms(stream: Stream, seconds: float, *, seed: int) -> tuple[int, float]:
    """Alarms, and the device-years in which they came, of devices that each live half a year."""
    rng = np.random.default_rng(seed)
    ends_at = time.monotonic() + seconds
    alarms, lived_s = 0, 0.0
    while lived_s == 0.0 or time.monotonic() < ends_at:
        device = Device(stream, rng)
        while device.monitor._past_s < PAST_SECONDS and device.now_s < LEARNING_S:
            device.live(2_000)
        alarms, lived_s = alarms + device.alarms, lived_s + device.now_s
        more, later_s = live_on(device, LIFE_S, ends_at)
        alarms, lived_s = alarms + more, lived_s + later_s
    return alarms, lived_s / YEAR_S


def live_on(device: Device, life_s: float, ends_at: float) -> tuple[int, float]:
    """Alarms, and the seconds lived, of a device whose past is known."""
    monitor, stream = device.monitor, device.stream
    size = int(np.ceil(monitor.config.look_records * monitor._past.design_effect()))
    at_once = max(RECORDS_AT_ONCE // size, 10)
    passed: dict[str, list[NDArray[np.bool_]]] = {}
    lived_s = 0.0
    while lived_s < life_s and (lived_s == 0.0 or time.monotonic() < ends_at):
        looks = Looks(device, size, at_once)
        for name, values, limit in judge_looks(monitor, looks):
            passed.setdefault(name, []).append(values >= limit)
        lived_s += size * at_once * stream.spacing_s
        device.now_s += size * at_once * stream.spacing_s
    needed = monitor.config.consecutive_checks
    alarms = sum(count_streaks(np.concatenate(parts), needed) for parts in passed.values())
    return alarms, lived_s


def count_streaks(passed: NDArray[np.bool_], needed: int) -> int:
    """How often at least `needed` in a row begin."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], passed, [False]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    return int((lengths >= needed).sum())


class Looks:
    """What a number of looks of equal size hold, one after the other.

    Attributes:
        counts: by metric, float64 of shape (looks, bins).
        means: clipped means of the feature; shape (looks,).
        latencies: shape (looks, LATENCY_BINS).
    """

    def __init__(self, device: Device, size: int, looks: int) -> None:
        self.size, self.looks = size, looks
        total = size * looks
        feature = device.monitor.shape.features[0]
        classes = np.concatenate(list(_classes(device, total)))
        bins = np.asarray(device.monitor.shape.class_bins)[classes]
        columns = [device._autoregressive(total, place) for place in range(3)]
        confidence = 1.0 / (1.0 + np.exp(-(2.0 + columns[0])))
        places = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        far = FAR_STD * feature.std
        near = np.clip(columns[1], feature.mean - far, feature.mean + far)
        latency_ms = 20.0 * np.exp(0.2 * columns[2])
        slots = (np.log(np.maximum(latency_ms / LATENCY_LOWEST_MS, 1.0)) / LATENCY_STEP).astype(int)
        release = device.monitor.shape.release.counts
        name = f"feature_psi:{feature.name}"
        self.counts = {
            "prediction_psi": self._count(bins, len(release["prediction_psi"])),
            "confidence_psi": self._count(places, CONFIDENCE_BINS),
            name: self._count(np.searchsorted(feature.edges, columns[1], "right"),
                              len(release[name])),
        }  # fmt: skip
        self.means = near.reshape(looks, size).mean(axis=1)
        self.latencies = self._count(np.minimum(slots, LATENCY_BINS - 1), LATENCY_BINS)

    def _count(self, columns: NDArray[Any], bins: int) -> Floats:
        """How often each look has each bin."""
        table = np.zeros((self.looks, bins))
        step = max(1, RECORDS_AT_ONCE // self.size)
        for first in range(0, self.looks, step):
            part = columns[first * self.size : (first + step) * self.size]
            looks = len(part) // self.size
            keys = part + bins * np.repeat(np.arange(looks), self.size)
            table[first : first + looks] = np.bincount(keys, minlength=looks * bins).reshape(
                looks, bins
            )
        return table

    def evidence(self, look: int, feature: str) -> Evidence:
        """One look as the monitor counts it."""
        return Evidence(
            {name: rows[look].tolist() for name, rows in self.counts.items()},
            records=float(self.size),
            means={feature: float(self.means[look])},
            feature_records=float(self.size),
            latencies=self.latencies[look].tolist(),
        )


def _classes(device: Device, total: int) -> Iterator[NDArray[np.int64]]:
    """The classes of `total` records, scene by scene, days and nights where there are some."""
    stream, rng = device.stream, device.rng
    if stream.season_psi:
        length = int(HALF_DAY_S / stream.spacing_s)
        first = int(device.now_s / stream.spacing_s)
        day = np.clip(2 * device.mix - device.night, 1e-6, None)
        mixes = day / day.sum(), device.night
    else:
        length, first, mixes = total, 0, (device.mix, device.mix)
    done = 0
    while done < total:
        at = first + done
        size = min(length - at % length, total - done)
        mix = mixes[at // length % 2]
        if stream.run <= 1:
            yield rng.choice(len(mix), size, p=mix)
        else:
            lengths = rng.geometric(1 / stream.run, int(2 * size / stream.run) + 60)
            yield np.repeat(rng.choice(len(mix), len(lengths), p=mix), lengths)[:size]
        done += size


def judge_looks(monitor: DriftMonitor, looks: Looks) -> Iterator[tuple[str, Floats, float]]:
    """Each metric's values, one a look, and the threshold above which a look counts."""
    config, release, past = monitor.config, monitor.shape.release, monitor._past
    past_effective = past.records / past.design_effect()
    effective = looks.size / past.design_effect()
    for name, rows in looks.counts.items():
        distances = [
            _psi(np.asarray(reference.counts[name]), rows)
            - psi_bias(rows.shape[1], effective, worth)
            for reference, worth in ((release, release.records), (past, past_effective))
        ]
        yield name, np.maximum(np.minimum(*distances), 0.0), config.fire_psi
    feature = monitor.shape.features[0]
    shifts = [
        np.abs(looks.means - reference.means[feature.name]) / (feature.std + 1e-8)
        for reference in (release, past)
    ]
    yield f"feature_shift:{feature.name}", np.minimum(*shifts), config.fire_feature_shift
    ratio = _medians_ms(looks.latencies) / past.median_latency_ms()
    yield "latency_mean_ratio", ratio, config.fire_latency_ratio


def _psi(reference: Floats, rows: Floats) -> Floats:
    """`edge_agent.observation.distances.psi` of each row."""
    bins = len(reference)
    p = (reference / reference.sum() + REFERENCE_FLOOR) / (1.0 + bins * REFERENCE_FLOOR)
    q = (rows + PRIOR) / (rows.sum(axis=1, keepdims=True) + PRIOR * bins)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1))


def _medians_ms(rows: Floats) -> Floats:
    """`Evidence.median_latency_ms` of each row."""
    sums = rows.cumsum(axis=1)
    half = sums[:, -1:] / 2
    index = (sums >= half).argmax(axis=1)
    here = np.arange(len(rows))
    below = sums[here, index] - rows[here, index]
    place = index + (half[:, 0] - below) / rows[here, index]
    return np.asarray(LATENCY_LOWEST_MS * np.exp(place * LATENCY_STEP))
