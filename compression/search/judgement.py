"""Which candidate keeps the constraints, which ones no other beats, and which to take. Pure."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.recipe import Gates

Z_ONE_SIDED_95 = 1.6448536269514722
# Two p50 nearer than this are one: interleaved medians of the same file differ by as much.
LATENCY_TIE = 0.05


@dataclass
class Candidate:
    """One variant that was built, with what is known of it.

    `drop_points` is None without labels; `agreement` is then the quality. `judged_on` says which
    rows accuracy and agreement are of: `subset` (held out of calibration) or `full` (evaluation).
    """

    name: str
    passes: list[dict[str, Any]]
    bytes: int
    accuracy: float | None = None
    drop_points: float | None = None
    agreement: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    judged_on: str = "subset"
    is_feasible: bool = False
    is_on_front: bool = False
    reason: str = ""
    collapse_flags: list[str] = field(default_factory=list)

    @property
    def quality(self) -> float:
        """Accuracy, or agreement with FP32 where there are no labels; in [0, 1]."""
        value = self.agreement if self.accuracy is None else self.accuracy
        return 0.0 if value is None else value

    def to_json(self) -> dict[str, Any]:
        """The row of the report."""
        row = asdict(self)
        row["accuracy_drop_points"] = row.pop("drop_points")
        return row


def list_violations(candidate: Candidate, gates: Gates) -> list[tuple[str, float]]:
    """Each constraint that is broken, in words, with its relative excess (above 0)."""
    checks = (
        (candidate.drop_points, gates.max_accuracy_drop_points, 1, "points of accuracy lost"),
        (candidate.bytes, gates.max_bytes, 1, "bytes"),
        (candidate.p95_ms, gates.max_p95_ms, 1, "ms at p95"),
        (candidate.agreement, gates.min_agreement, -1, "agreement"),
    )
    broken = [(f"collapsed ({flag})", math.inf) for flag in candidate.collapse_flags]
    for measured, limit, sign, unit in checks:
        if measured is None or limit is None or sign * (measured - limit) <= 1e-9:
            continue
        word = "at most" if sign > 0 else "at least"
        excess = sign * (measured - limit) / max(abs(limit), 1e-3)
        broken.append((f"{measured:g} {unit}, {word} {limit:g} allowed", excess))
    return broken


def measure_excess(candidate: Candidate, gates: Gates) -> float:
    """How far a candidate is from keeping all constraints; 0 when it keeps them."""
    return sum(excess for _, excess in list_violations(candidate, gates))


def is_clearly_worse(
    reference: NDArray[np.bool_], hits: NDArray[np.bool_], max_drop_points: float
) -> bool:
    """Whether rows seen so far rule a candidate out: the paired lower bound is above the limit.

    The bound is one-sided at 95 % for the difference of two paired proportions (Agresti 2013,
    Categorical Data Analysis, section 11.1). A few rows thus never rule out what many would admit.

    Args:
        reference: per row, whether FP32 was right.
        hits: per row, whether the candidate was right.
        max_drop_points: the limit, in points.
    """
    rows = len(reference)
    lost = int((reference & ~hits).sum())
    won = int((~reference & hits).sum())
    drop = (lost - won) / rows
    spread = math.sqrt(max(lost + won - (lost - won) ** 2 / rows, 0.0)) / rows
    return 100.0 * (drop - Z_ONE_SIDED_95 * spread) > max_drop_points


def find_front(candidates: list[Candidate]) -> list[Candidate]:
    """Those that no other beats in size, quality and latency; collapsed ones never belong."""
    sound = [item for item in candidates if not item.collapse_flags]
    return [item for item in sound if not any(_dominates(other, item) for other in sound)]


def rank_candidates(candidates: list[Candidate], objective: str) -> list[Candidate]:
    """Best first by the objective; the other figures and the name break ties."""
    return sorted(candidates, key=lambda item: (*_costs(item, objective), item.name))


def recommend(candidates: list[Candidate], objective: str) -> Candidate | None:
    """The best feasible candidate judged on the full set, or None.

    By latency, the smallest of those within 5 % of the fastest: less is only noise.
    """
    feasible = [item for item in candidates if item.is_feasible and item.judged_on == "full"]
    ranked = rank_candidates(feasible, objective)
    if not ranked or objective != "latency":
        return ranked[0] if ranked else None
    fastest = _latency(ranked[0])
    equal = [item for item in ranked if _latency(item) <= fastest * (1.0 + LATENCY_TIE)]
    return rank_candidates(equal, "size")[0]


def choose_closest(candidates: list[Candidate], gates: Gates) -> Candidate:
    """The candidate that breaks the constraints least, of those judged on the full set."""
    judged = [item for item in candidates if item.judged_on == "full"] or candidates
    return min(judged, key=lambda item: (measure_excess(item, gates), item.bytes, item.name))


def describe_figures(candidate: Candidate, has_labels: bool) -> str:
    """Size, quality and latency in one phrase."""
    if has_labels and candidate.drop_points is not None:
        quality = f"{candidate.drop_points:.2f} points lost"
    else:
        quality = f"agreement {candidate.agreement or 0.0:.4f}"
    latency = "" if candidate.p50_ms is None else f", p50 {candidate.p50_ms:.3g} ms"
    return f"{candidate.bytes:,} bytes, {quality}{latency}"


def _dominates(other: Candidate, item: Candidate) -> bool:
    mine = (item.bytes, -item.quality, _latency(item))
    theirs = (other.bytes, -other.quality, _latency(other))
    return all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine


def _costs(item: Candidate, objective: str) -> tuple[float, ...]:
    size, loss, latency = float(item.bytes), -item.quality, _latency(item)
    orders = {
        "size": (size, loss, latency),
        "accuracy": (loss, size, latency),
        "latency": (latency, size, loss),
    }
    return orders[objective]


def _latency(item: Candidate) -> float:
    return math.inf if item.p50_ms is None else item.p50_ms
