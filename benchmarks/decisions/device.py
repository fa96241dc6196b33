"""Drift on the device: false alarms in a device-year, and records until PSI 1.0 is found.

The agent's own `DriftMonitor` at its default settings, fed with streams in which nothing is wrong:
independent records, videos whose frames repeat each other, devices with mixes of their own, days
and nights. `stream_alarms_year_*` are the alarms of each; the figure is the worst of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.config import DriftConfig
from edge_agent.observation.drift import DriftMonitor
from edge_agent.observation.evidence import CONFIDENCE_BINS, LATENCY_BINS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
YEAR_S = 365.25 * 86_400
HALF_DAY_S = 43_200
CHUNK = 50
"""Records between two checks; the agent checks at each, and looks at none before 200."""
PIECE = 20_000
REFERENCE_RECORDS = 5_000
LATENCY_STEP, LATENCY_LOWEST_MS = np.log(1.1), 1e-3
HEALTHY_RECORDS = 1_200


@dataclass(frozen=True)
class Stream:
    """What a device meets while nothing is wrong."""

    classes: int = 10
    imbalance: float = 0.0
    """Exponent of a Zipf law of the classes' shares; 0 makes them equal."""
    run: float = 1.0
    """Mean length of a scene, whose frames have one class and like confidences and features."""
    likeness: float = np.inf
    """Concentration of the Dirichlet law that a device's own mix comes from."""
    season_psi: float = 0.0
    """PSI between day and night; the baseline is that of whole days."""
    spacing_s: float = 1.0


STREAMS = {
    "independent": Stream(),
    "imbalanced": Stream(imbalance=1.0),
    "100_classes": Stream(classes=100, imbalance=1.0),
    "1000_classes": Stream(classes=1000),
    "2_classes": Stream(classes=2, imbalance=2.0),
    "video_runs_10": Stream(run=10.0),
    "video_runs_30": Stream(run=30.0),
    "video_runs_100": Stream(run=100.0),
    "own_mix": Stream(likeness=3.0),
    "own_mix_video_30": Stream(likeness=10.0, run=30.0),
    "day_night_03": Stream(season_psi=0.3, spacing_s=10.0),
    "day_night_03_video_30": Stream(season_psi=0.3, run=30.0, spacing_s=1.0),
}
BEYOND = {"day_night_12_video_30": Stream(season_psi=1.2, run=30.0)}
"""Streams beyond what is promised: told, and not counted."""


def figures(seconds: float) -> dict[str, float]:
    """Alarms per device-year of each stream and the worst; the delay's median and 95 %."""
    # It stands on this module.
    from benchmarks.decisions.device_years import count_alarms

    found: dict[str, float] = {}
    years = 0.0
    worst, least = 0.0, np.inf
    share = 0.9 * seconds / len(STREAMS | BEYOND)
    for number, (name, stream) in enumerate((STREAMS | BEYOND).items()):
        alarms, simulated = count_alarms(stream, share, seed=number)
        found[f"stream_alarms_year_{name}"] = alarms / simulated
        if name in STREAMS:
            years, least = years + simulated, min(least, simulated)
            worst = max(worst, alarms / simulated)
    found["device_false_alarms_year"] = worst
    found["device_years_simulated"] = years
    found["device_years_simulated_least_of_a_stream"] = least
    delays = find_delays(runs=int(np.clip(seconds, 20, 200)))
    found["device_delay_records_psi1_median"] = float(np.median(delays))
    found["device_delay_records_psi1"] = float(np.quantile(delays, 0.95))
    return found


def find_delays(*, runs: int, seed: int = 99) -> list[float]:
    """Records from a change of PSI 1.0 in ten classes until each device fires."""
    rng, delays = np.random.default_rng(seed), []
    for _ in range(runs):
        device = Device(Stream(), rng)
        device.live(HEALTHY_RECORDS)
        device.mix = shift(device.mix, 1.0, rng)
        started = device.records
        while not device.is_firing and device.records - started < PIECE:
            device.live(CHUNK)
        delays.append(float(device.records - started) if device.is_firing else np.inf)
    return delays


class Device:
    """A monitor and the stream it is fed with."""

    def __init__(self, stream: Stream, rng: np.random.Generator) -> None:
        self.stream, self.rng = stream, rng
        shares = np.arange(1, stream.classes + 1, dtype=float) ** -stream.imbalance
        base = shares / shares.sum()
        own = np.isfinite(stream.likeness)
        self.mix = rng.dirichlet(stream.likeness * stream.classes * base) if own else base
        self.night = self.mix
        if stream.season_psi:
            # The day is its mirror image, twice as far from it as each is from their mean.
            self.night = shift(self.mix, stream.season_psi / 4, rng)
            day = self.mix**2 / self.night
            base = self.mix = (self.night + day / day.sum()) / 2
        self.monitor = DriftMonitor(make_baseline(base, rng), DriftConfig())
        self.now_s, self.records, self.alarms = 0.0, 0, 0
        self.is_firing = False
        self._memory = rng.standard_normal(3)

    def live(self, records: int) -> None:
        """Meets `records` more; looks at each CHUNK."""
        for classes, confidence, feature, latency in self._draw(records):
            for start in range(0, len(classes), CHUNK):
                part = slice(start, start + CHUNK)
                add_many(
                    self.monitor, classes[part], confidence[part], feature[part], latency[part]
                )
                size = len(classes[part])
                self.records += size
                self.now_s += size * self.stream.spacing_s
                change = self.monitor.check(self.now_s, is_firing=self.is_firing)
                if change is not None:
                    self.is_firing = change.is_firing
                    self.alarms += change.is_firing

    def _draw(self, records: int) -> Iterator[tuple[Ints, Floats, Floats, Floats]]:
        half_day = max(CHUNK, int(HALF_DAY_S / self.stream.spacing_s))
        while records > 0:
            # Never across dawn or dusk.
            left = half_day - self.records % half_day if self.stream.season_psi else records
            size = min(records, left)
            is_night = self.records // half_day % 2 == 1
            mix = self.night if is_night else np.clip(2 * self.mix - self.night, 1e-6, None)
            mix = mix if self.stream.season_psi else self.mix
            yield self._scenes(size, mix / mix.sum())
            records -= size

    def _scenes(self, size: int, mix: Floats) -> tuple[Ints, Floats, Floats, Floats]:
        rng, run = self.rng, self.stream.run
        if run <= 1:
            classes = rng.choice(len(mix), size, p=mix)
        else:
            lengths = rng.geometric(1 / run, int(2 * size / run) + 60)
            classes = np.repeat(rng.choice(len(mix), len(lengths), p=mix), lengths)[:size]
        columns = [self._autoregressive(size, place) for place in range(3)]
        confidence = 1.0 / (1.0 + np.exp(-(2.0 + columns[0])))
        return classes, confidence, columns[1], 20.0 * np.exp(0.2 * columns[2])

    def _autoregressive(self, size: int, place: int) -> Floats:
        """A standard normal series with the memory of a scene."""
        noise = self.rng.standard_normal(size)
        if self.stream.run <= 1:
            return noise
        from scipy.signal import lfilter

        memory = 1 - 1 / self.stream.run
        series, _ = lfilter(
            [np.sqrt(1 - memory**2)], [1, -memory], noise, zi=[memory * self._memory[place]]
        )
        self._memory[place] = series[-1]
        return np.asarray(series)


def add_many(
    monitor: DriftMonitor, classes: Ints, confidence: Floats, feature: Floats, latency: Floats
) -> None:
    """What `DriftMonitor.add` does for each record, for many at once; a test compares the two."""
    counter, shape = monitor._counter, monitor.shape
    evidence, size = counter.evidence, len(classes)
    bins = np.asarray(shape.class_bins)[classes]
    places = np.clip((confidence * CONFIDENCE_BINS).astype(int), 0, CONFIDENCE_BINS - 1)
    columns = {"prediction_psi": bins, "confidence_psi": places}
    first = evidence.feature_records
    for one in shape.features:
        columns[f"feature_psi:{one.name}"] = np.searchsorted(one.edges, feature, "right")
        near = np.clip(feature, one.mean - 4 * one.std, one.mean + 4 * one.std)
        mean = evidence.means.get(one.name, 0.0)
        evidence.means[one.name] = (mean * first + near.sum()) / (first + size)
    evidence.feature_records += size
    for name, column in columns.items():
        row = evidence.counts[name]
        added = np.bincount(column, minlength=len(row))
        evidence.counts[name] = [a + b for a, b in zip(row, added.tolist(), strict=True)]
    slots = (np.log(np.maximum(latency / LATENCY_LOWEST_MS, 1.0)) / LATENCY_STEP).astype(int)
    for slot, number in zip(
        *np.unique(np.minimum(slots, LATENCY_BINS - 1), return_counts=True), strict=True
    ):
        evidence.latencies[int(slot)] += int(number)
    cuts = np.flatnonzero(np.diff(classes)) + 1
    for value, length in zip(
        classes[np.concatenate([[0], cuts])].tolist(),
        np.diff(np.concatenate([[0], cuts, [size]])).tolist(),
        strict=True,
    ):
        before = counter._length if value == counter._last else 0
        evidence.runs += before == 0
        evidence.squared_runs += (before + length) ** 2 - before**2
        counter._last, counter._length = value, before + length
    evidence.records += size
    monitor.count += size


def make_baseline(mix: Floats, rng: np.random.Generator) -> dict[str, Any]:
    """A profile of schema `aviary.baseline/1` from independent records of `mix`."""
    confidence = 1.0 / (1.0 + np.exp(-(2.0 + rng.standard_normal(REFERENCE_RECORDS))))
    feature = rng.standard_normal(REFERENCE_RECORDS)
    edges = np.quantile(feature, np.linspace(0, 1, 66)[1:-1])
    counts = np.bincount(np.searchsorted(edges, feature, "right"), minlength=65)
    return {
        "confidence": {"counts": np.histogram(confidence, 64, (0, 1))[0].tolist()},
        "class": {"counts": [*rng.multinomial(REFERENCE_RECORDS, mix).tolist(), 0]},
        "features": [{"name": "mean", "edges": edges.tolist(), "counts": counts.tolist()}],
    }


def shift(mix: Floats, target: float, rng: np.random.Generator) -> Floats:
    """A mix at a PSI of `target` from `mix`, in a direction by chance."""
    direction = rng.standard_normal(len(mix))
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        moved = mix * np.exp(middle * direction)
        moved /= moved.sum()
        distance = float(((moved - mix) * np.log(moved / mix)).sum())
        low, high = (middle, high) if distance < target else (low, middle)
    return np.asarray(moved)
