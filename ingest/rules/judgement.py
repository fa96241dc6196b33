"""What a judgement is, and what all metrics share in making one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.rules import psi as drift
from ingest.rules.binning import coarse_table
from ingest.rules.clustering import SampleSide, describe_side
from ingest.rules.laws import Law
from registry.units import write_count

Table = NDArray[np.float64]
CHANGED_DEVICES = "changed_devices"


@dataclass(frozen=True)
class Policy:
    """The limits of one model; see the model `DriftPolicy` for each field."""

    rule: str = "equivalence"
    warning_psi: float = drift.WARNING_PSI
    critical_psi: float = drift.CRITICAL_PSI
    warning_confidence_drop: float = 0.05
    critical_confidence_drop: float = 0.10
    warning_error_rate: float = 0.01
    critical_error_rate: float = 0.05
    warning_latency_ratio: float = 1.25
    critical_latency_ratio: float = 2.0
    warning_changed_devices: float = 0.01
    critical_changed_devices: float = 0.05
    min_devices: int = 20
    min_samples_per_bin: int = 10
    lookback_windows: int = 24


@dataclass(frozen=True)
class Judgement:
    """One metric of one slice.

    `laws` are those of the warning and of the critical level; None where nothing was tested.
    `is_enough` says whether the evidence allows the answer *healthy*.
    """

    metric: str
    slice: str = "all"
    status: str = "insufficient"
    value: float | None = None
    threshold: float | None = None
    threshold_critical: float | None = None
    lower_bound: float | None = None
    n: int = 0
    n_eff: float = 0.0
    n_reference: int = 0
    devices: int = 0
    design_effect: float | None = None
    bins: int = 0
    p_warning: float | None = None
    p_critical: float | None = None
    q_value: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    laws: tuple[Law, Law] | None = None
    is_enough: bool = False


def as_table(rows: Sequence[Sequence[int]] | Table) -> Table:
    """Rows of counts as float64 of shape (rows, bins), as wide as the widest."""
    if isinstance(rows, np.ndarray):
        return rows
    return counts_table(rows, max(map(len, rows), default=0))


def widen(table: Table, width: int) -> Table:
    """`table` with at least `width` columns, the new ones empty."""
    missing = width - table.shape[1]
    return table if missing <= 0 else np.pad(table, ((0, 0), (0, missing)))


def counts_table(rows: Sequence[Sequence[int]], width: int) -> Table:
    """One row of counts per device, float64 of shape (devices, width)."""
    table = np.zeros((len(rows), width))
    for index, row in enumerate(rows):
        table[index, : min(len(row), width)] = row[:width]
    return table


def side_of(table: Table, plan: Sequence[int] | None = None) -> SampleSide:
    """The devices' side of a comparison, its columns merged by `plan`."""
    merged = table if plan is None else coarse_table(table, plan)
    return describe_side(merged, merged.sum(axis=0))


def missing_evidence(devices: int, n_eff: float, need_records: float, policy: Policy) -> str:
    """What there is and what would be enough to call the metric healthy."""
    parts = []
    if devices < policy.min_devices:
        parts.append(f"{devices} of {write_count(policy.min_devices, 'device')}")
    if n_eff < need_records:
        parts.append(f"{n_eff:.0f} of {need_records:.0f} effective records")
    return ", ".join(parts)
