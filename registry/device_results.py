"""What self-tests on devices came to, class by class of hardware, and what that says. Pure.

Every device of a class is asked the same rows, the golden vectors, and computes them with the same
kernels. So a class is as certain as its number of rows makes it, however many devices it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.intervals import wilson_interval

CHANGED_MARGIN = 0.05
"""Answers near a tie may turn over between kernels; more than this share of them is a fault."""
# Of a class, the first of these that it has names its kernels.
_KERNELS = ("vnni", "avx512", "avx2", "i8mm", "dotprod", "neon")
# x86 that adds two INT8 products in 16 bits.
_NARROW = frozenset({"avx2", "avx512"})
SATURATED = "collapse by saturation"
MAY_SATURATE = "perhaps collapse by saturation"
OTHERWISE = "answers otherwise than where it was measured"


@dataclass(frozen=True)
class DeviceResult:
    """The last self-tests of one variant on one class of devices.

    Attributes:
        hardware: the class that people or devices name, else the processor.
        isa: the instruction sets that the devices report; empty where they report none.
        devices: how many have tested the variant.
        failed: how many of them failed the test.
        rows: golden rows that one device was asked.
        agreement: share of rows answered as where the variant was made, 0 to 1.
        lowest_agreement: that of the device with the fewest.
        labelled: rows of one device whose right answer is known.
        accuracy: share of them answered rightly; None without labels.
        latency_ms: mean over devices of their median milliseconds of one row.
        verdict: why the class contradicts what was measured; empty where it does not.
    """

    hardware: str
    isa: tuple[str, ...]
    devices: int
    failed: int
    rows: int
    agreement: float
    lowest_agreement: float
    labelled: int
    accuracy: float | None
    latency_ms: float | None
    verdict: str

    @property
    def agreement_interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval over rows."""
        return wilson_interval(round(self.agreement * self.rows), self.rows)

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval over labelled rows; None without labels."""
        if self.accuracy is None:
            return None
        return wilson_interval(round(self.accuracy * self.labelled), self.labelled)

    @property
    def figures(self) -> str:
        """The figures in a phrase."""
        low, high = self.agreement_interval
        text = (
            f"on {self.devices:,} {self.hardware}: {_percent(self.agreement)} of {self.rows:,} "
            f"rows agree (95 %: {100 * low:.1f} to {100 * high:.1f})"
        )
        if self.accuracy is not None:
            text += f", {_percent(self.accuracy)} are right"
        if self.latency_ms is not None:
            text += f", {self.latency_ms:.3g} ms"
        if self.failed:
            text += f"; failed on {self.failed:,}"
        return text

    @property
    def words(self) -> str:
        """The figures and, where they contradict the measurement, what that is called."""
        return f"{self.figures}: {self.verdict}" if self.verdict else self.figures

    def as_row(self) -> dict[str, Any]:
        """The result for the API and for tables."""
        interval = self.accuracy_interval or (None, None)
        return {
            "hardware": self.hardware,
            "isa": list(self.isa),
            "devices": self.devices,
            "failed": self.failed,
            "rows": self.rows,
            "agreement": round(self.agreement, 4),
            "agreement_low": round(self.agreement_interval[0], 4),
            "agreement_high": round(self.agreement_interval[1], 4),
            "lowest_agreement": round(self.lowest_agreement, 4),
            "labelled": self.labelled,
            "accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "accuracy_low": interval[0] and round(interval[0], 4),
            "accuracy_high": interval[1] and round(interval[1], 4),
            "latency_ms": self.latency_ms and round(self.latency_ms, 4),
            "verdict": self.verdict,
            "words": self.words,
        }


def judge_result(
    *,
    rows: int,
    agreement: float,
    labelled: int,
    accuracy: float | None,
    isa: tuple[str, ...],
    metrics: Mapping[str, Any],
) -> str:
    """Why a class of devices contradicts what was measured of the variant; empty where it does not.

    It does when certainly more than `CHANGED_MARGIN` of its answers are others than where the
    variant was made, or when its accuracy lies below the measured one and their intervals do not
    meet.

    Args:
        metrics: of the variant, as its compression job left them; empty for an uploaded one.
    """
    changed = wilson_interval(round(agreement * rows), rows)[1] < 1.0 - CHANGED_MARGIN
    least = _least_measured(metrics, isa)
    worse = (
        accuracy is not None
        and least is not None
        and wilson_interval(round(accuracy * labelled), labelled)[1] < least
    )
    if not changed and not worse:
        return ""
    if name_kernels(isa) not in _NARROW:
        return OTHERWISE
    saturating = metrics.get("saturates_on")
    if saturating is None:
        return MAY_SATURATE
    return SATURATED if name_kernels(isa) in saturating else OTHERWISE


def name_kernels(isa: tuple[str, ...]) -> str:
    """The instruction set that decides how these devices compute INT8; empty where unknown."""
    return next((name for name in _KERNELS if name in isa), "")


def _least_measured(metrics: Mapping[str, Any], isa: tuple[str, ...]) -> float | None:
    """The lower end of the accuracy that was measured for these kernels; None without labels."""
    whole, interval = metrics.get("accuracy"), metrics.get("accuracy_interval")
    if not isinstance(whole, int | float) or not interval:
        return None
    known = (metrics.get("accuracy_by_isa") or {}).get(name_kernels(isa))
    # The same rows judged every set, so that the interval is as wide around each.
    return interval[0] if known is None else interval[0] + known - whole


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
