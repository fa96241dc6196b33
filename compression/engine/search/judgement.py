"""Which candidate keeps the constraints, which ones no other beats, and which to take. Pure."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.measure.advantage import LATENCY_TIE
from compression.recipe.recipe import Gates

Z_ONE_SIDED_95 = 1.6448536269514722


@dataclass
class Candidate:
    """One variant that was built, with what is known of it.

    `drop_points` is None without labels; `agreement` is then the quality. `judged_on` says which
    rows accuracy and agreement are of: `subset` (held out of calibration) or `full` (evaluation).
    The `held_out_` figures stay those of the held-out rows.
    """

    name: str
    passes: list[dict[str, Any]]
    bytes: int
    accuracy: float | None = None
    drop_points: float | None = None
    agreement: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    held_out_accuracy: float | None = None
    held_out_drop_points: float | None = None
    held_out_agreement: float | None = None
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

    def as_held_out(self) -> "Candidate":
        """The candidate as the held-out rows show it."""
        return replace(
            self,
            accuracy=self.held_out_accuracy,
            drop_points=self.held_out_drop_points,
            agreement=self.held_out_agreement,
        )

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


@dataclass(frozen=True)
class Choice:
    """The candidate to take, and what it owes to the evaluation set.

    Attributes:
        candidate: None where no candidate keeps the constraints.
        passed_over: names that the held-out rows ranked before it and the evaluation set refused.
        is_held_out: whether the held-out rows chose alone: the candidate keeps the constraints
            there and is the first that the evaluation set was asked about. Its figures are then
            those of rows that had no part in the choice.
    """

    candidate: Candidate | None
    passed_over: tuple[str, ...] = ()
    is_held_out: bool = False


def recommend(candidates: list[Candidate], gates: Gates, objective: str) -> Choice:
    """The first in the order of the held-out rows that keeps every constraint on the full set.

    First come those that keep the constraints on the held-out rows, best by the objective, then
    the others. Accuracy on the evaluation set can refuse a candidate but ranks none.
    """
    judged = {item.name: item for item in candidates if item.judged_on == "full"}
    seen = [item.as_held_out() for item in judged.values()]
    likely = [item for item in seen if not list_violations(item, gates)]
    doubtful = [item for item in seen if list_violations(item, gates)]
    passed_over: list[str] = []
    for item in [*_rank_finalists(likely, objective), *_rank_finalists(doubtful, objective)]:
        if judged[item.name].is_feasible:
            is_held_out = item in likely and not passed_over
            return Choice(judged[item.name], tuple(passed_over), is_held_out)
        passed_over.append(item.name)
    return Choice(None, tuple(passed_over))


def _rank_finalists(candidates: list[Candidate], objective: str) -> list[Candidate]:
    """Best first; by latency, those within 5 % of the fastest left by size: less is noise."""
    ranked = rank_candidates(candidates, objective)
    if objective != "latency":
        return ranked
    ordered: list[Candidate] = []
    while ranked:
        limit = _latency(ranked[0]) * (1.0 + LATENCY_TIE)
        equal = rank_candidates([item for item in ranked if _latency(item) <= limit], "size")
        ordered += equal
        ranked = [item for item in ranked if item not in equal]
    return ordered


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
