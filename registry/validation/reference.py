"""The reference of a version: what the model answers on its data set, within time and memory.

Batches are sized by what the first rows took, not by the data set; where the rows would take longer
than the time they have, a part of them, evenly spread, stands for all, and the profile says so.
"""

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.reading.contract import PROJECTIONS, Contract, ContractError
from registry.reading.inputs import choose_described, describe_rows
from registry.reading.reader import Reader
from registry.reading.scores import Reading
from registry.validation.feeds import Rows
from registry.validation.profile import build_profile
from registry.validation.rules import RuleError
from registry.validation.running import Session, run_feed

MAX_ROWS = 20_000
MAX_BATCH = 256
PROBE_ROWS = 4
LEAST_ROWS = 32
MEMORY_SHARE = 8
"""A batch may take this part of the memory limit."""


@dataclass(frozen=True)
class Reference:
    profile: dict[str, Any]
    contract: Contract
    """With what only the data set tells, such as the centroid of an embedding."""
    notes: list[str]


def make_reference(
    session: Session,
    contract: Contract,
    rows: Rows,
    truth: NDArray[Any] | None,
    labels: Sequence[str],
    limits: Mapping[str, float],
) -> Reference:
    """The profile of the model on the data set.

    Args:
        truth: integer labels [rows], or None.
        limits: `memory_bytes` and `profile_seconds`.

    Raises:
        RuleError: it fails on a row, or its answers are not what the contract says.
    """
    runner = _Runner(session, contract, labels)
    indices, batch = _plan(runner, rows, limits)
    chosen = rows.take(indices)
    readings = runner.read(chosen, batch)
    if contract.task == "embedding":
        places = np.array([reading.measures[-PROJECTIONS:] for reading in readings])
        contract = replace(contract, centroid=tuple(places.mean(axis=0).tolist()))
        runner = _Runner(session, contract, labels)
        readings = [
            replace(
                reading,
                measures=(reading.measures[0], _distance(contract, place), *reading.measures[1:]),
            )
            for reading, place in zip(readings, places, strict=True)
        ]
    described = chosen.arrays[choose_described(contract, [spec.name for spec in rows.specs])]
    profile = build_profile(
        labels=labels,
        inputs=describe_rows(described),
        measures={
            name: np.array([reading.measures[place] for reading in readings])
            for place, name in enumerate(runner.reader.measure_names)
        },
        classes=_classes(readings) if contract.has_classes else None,
        confidence=_confidence(readings) if contract.has_confidence else None,
        truth=None if truth is None or not contract.has_classes else truth[indices],
    )
    notes = []
    if len(indices) < rows.count:
        profile["rows_of_the_data_set"] = rows.count
        notes.append(
            f"The reference rests on {len(indices):,} of {rows.count:,} rows, evenly spread: all "
            "would take longer than validation may"
        )
    return Reference(profile, contract, notes)


class _Runner:
    def __init__(self, session: Session, contract: Contract, labels: Sequence[str]) -> None:
        self.session = session
        self.names = [item.name for item in session.get_outputs()]
        self.reader = Reader(contract, self.names, labels, top_k=1)

    def read(self, rows: Rows, batch: int) -> list[Reading]:
        """A reading per row. Raises RuleError."""
        found: list[Reading] = []
        for feed, count in rows.batches(batch):
            outputs = run_feed(self.session, self.names, feed)
            try:
                found += [self.reader.read(outputs, row) for row in range(count)]
            except ContractError as error:
                raise RuleError(f"The outputs are not what the contract says: {error}") from error
            if any(reading.error for reading in found[-count:]):
                raise RuleError("The model gives NaN or infinite scores on the data set")
        return found


def _plan(
    runner: _Runner, rows: Rows, limits: Mapping[str, float]
) -> tuple[NDArray[np.int64], int]:
    """Which rows to run, and how many at a time, from what a few of them cost."""
    probe = rows.head(max(1, min(PROBE_ROWS, rows.count)))
    before_bytes, started = _peak_bytes(), time.perf_counter()
    runner.read(probe, 1)
    seconds = (time.perf_counter() - started) / probe.count
    # The peak only grows, and the first run's share of it is not a row's alone: on the safe side.
    inputs = sum(feed.nbytes for feed in probe.feed(0, rows.fixed_rows or 1).values())
    row_bytes = max(_peak_bytes() - before_bytes, 4 * inputs, 1)
    batch = int(limits["memory_bytes"] / MEMORY_SHARE // row_bytes)
    batch = max(1, min(MAX_BATCH, batch))
    affordable = int(limits["profile_seconds"] / max(seconds, 1e-9))
    count = min(rows.count, MAX_ROWS, max(LEAST_ROWS, affordable))
    spread = np.linspace(0, rows.count - 1, count).round().astype(np.int64)
    return np.unique(spread), batch


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _distance(contract: Contract, place: NDArray[np.float64]) -> float:
    away = place - np.asarray(contract.centroid)
    return float(np.sqrt(away @ away))


def _classes(readings: Sequence[Reading]) -> NDArray[np.int64]:
    numbers = [-1 if reading.class_id is None else reading.class_id for reading in readings]
    return np.array(numbers, dtype=np.int64)


def _confidence(readings: Sequence[Reading]) -> NDArray[np.float64]:
    return np.array([reading.confidence for reading in readings], dtype=np.float64)
