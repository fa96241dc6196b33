"""Which fine bins are judged together, so that each merged bin can carry a test.

A bin needs enough effective records on both sides. Which bins have them is read from both sides
together: under no change, how their sum splits says nothing about the sum, so the choice does not
favour a finding. A bin that only one side fills stands alone as soon as that side holds ten
effective records there and chance would fill none of the bins so once in 10,000 times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

MIN_SHARE = 0.05
"""Least share of an ordered bin, and of a group of rare classes, where evidence allows finer."""
LEAST_BINS = 5
"""Bins below which a coarser need is accepted, to find harm in little evidence."""
HARM_NEED = 2.0
SURPRISE_RECORDS = 10.0
SURPRISE_LEVEL = 1e-4
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class BinPlan:
    """The merged bin of each fine bin.

    `is_thin` says that some bin holds fewer than the asked number of effective records: harm may be
    found with such bins, health may not be concluded. `merged` counts the fine bins with records
    that share a bin for lack of evidence.
    """

    plan: list[int]
    is_thin: bool
    merged: int

    @property
    def width(self) -> int:
        """How many merged bins there are."""
        return max(self.plan, default=-1) + 1


def plan_bins(
    reference: Vector,
    current: Vector,
    *,
    is_ordered: bool,
    need: float = 10.0,
    reference_surprise: Vector | None = None,
    current_surprise: Vector | None = None,
) -> BinPlan:
    """The finest plan whose bins hold `need` effective records on both sides.

    Args:
        reference: effective counts, float64 of shape (B,).
        current: likewise.
        is_ordered: True merges neighbours; False lets frequent classes stand alone and puts the
            others into groups of about equal mass, in the order of the label map.
        need: effective records expected in each bin.
        reference_surprise: counts over the effect of each bin by itself, where it differs.
        current_surprise: likewise.
    """
    fine = len(reference)
    plan = _base_plan(reference, current, is_ordered, need)
    is_thin = False
    filled = int(((reference + current) > 0).sum())
    if len(set(plan.tolist())) < min(LEAST_BINS, filled) and need > HARM_NEED:
        finer = _base_plan(reference, current, is_ordered, HARM_NEED)
        if len(set(finer.tolist())) > len(set(plan.tolist())):
            plan, is_thin = finer, True
    surprises = _surprises(
        reference if reference_surprise is None else reference_surprise,
        current if current_surprise is None else current_surprise,
        plan,
        is_ordered,
    )
    for index, group in enumerate(surprises):
        plan[group] = fine + index
    plan = _without_empty_bins(plan, reference + current)
    if fine >= 2 and len(set(plan.tolist())) < 2 and filled == 1:
        # All records of both sides in one bin; what leaves it would show beside it.
        plan = np.where(reference + current > 0, 0, 1)
    _, plan = np.unique(_by_first_seen(plan), return_inverse=True)
    sizes = np.bincount(plan[(reference + current) > 0], minlength=1) if filled else np.zeros(1)
    return BinPlan(plan.tolist(), is_thin, int(sizes[sizes > 1].sum()))


def _without_empty_bins(plan: NDArray[np.int64], counts: Vector) -> NDArray[np.int64]:
    """Merged bins that neither side fills join the last one that is filled, where two are."""
    held = np.bincount(plan, weights=counts)
    filled = np.flatnonzero(held > 0)
    if len(filled) < 2:
        return plan
    return np.where(held[plan] > 0, plan, filled[-1])


def _by_first_seen(plan: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, numbered in the order of their first fine bin."""
    names: dict[int, int] = {}
    return np.array([names.setdefault(int(group), len(names)) for group in plan], dtype=int)


def _expected(reference: Vector, current: Vector) -> Vector:
    """Records expected on the smaller side in each fine bin if nothing had changed."""
    total = float(reference.sum() + current.sum())
    if total <= 0:
        return np.zeros(len(reference))
    smaller = min(float(reference.sum()), float(current.sum()))
    return (reference + current) * (smaller / total)


def _base_plan(
    reference: Vector, current: Vector, is_ordered: bool, need: float
) -> NDArray[np.int64]:
    expected = _expected(reference, current)
    least = max(need, MIN_SHARE * float(expected.sum()))
    if is_ordered:
        return _neighbours(expected, least)
    plan = np.full(len(expected), -1)
    alone = np.flatnonzero(expected >= need)
    plan[alone] = np.arange(len(alone))
    rest = np.flatnonzero(plan < 0)
    if not len(rest):
        return plan
    held = float(expected[rest].sum())
    if held >= need:
        plan[rest] = len(alone) + _neighbours(expected[rest], min(least, held))
    elif len(alone) > 1 and held > 0:
        plan[rest] = plan[alone[np.argmin(expected[alone])]]
    elif len(alone) > 1:
        plan[rest] = plan[alone[-1]]
    else:
        plan[rest] = len(alone)
    return plan


def _neighbours(expected: Vector, least: float) -> NDArray[np.int64]:
    """Neighbours merged until each group expects `least`; what is left joins the last group."""
    plan = np.zeros(len(expected), dtype=int)
    group, held = 0, 0.0
    for index, value in enumerate(expected):
        if held >= least:
            group, held = group + 1, 0.0
        plan[index] = group
        held += float(value)
    if group and held < least:
        plan[plan == group] = group - 1
    return plan


def _surprises(
    reference: Vector, current: Vector, plan: NDArray[np.int64], is_ordered: bool
) -> list[NDArray[np.int64]]:
    """Fine bins, or runs of neighbours, that one side fills although the other says it should not.

    The test is the binomial one of how the bin's records split between the sides, exact for given
    sums (Przyborowski and Wilenski, Biometrika 31, 1940).
    """
    n_reference, n_current = float(reference.sum()), float(current.sum())
    if n_reference <= 0 or n_current <= 0:
        return []
    groups = _runs(reference, current) if is_ordered else _shared(plan)
    if not groups:
        return []
    at = np.array([[reference[g].sum(), current[g].sum()] for g in groups])
    chance = n_current / (n_reference + n_current)
    found = []
    for (in_reference, in_current), group in zip(at, groups, strict=True):
        for count, other, share in (
            (in_current, in_reference, chance),
            (in_reference, in_current, 1 - chance),
        ):
            if count >= SURPRISE_RECORDS:
                p = float(special.betainc(count, other + 1, share))
                if p * 2 * len(groups) < SURPRISE_LEVEL:
                    found.append(group)
                    break
    return found


def _shared(plan: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    sizes = np.bincount(plan)
    return [np.array([index]) for index in np.flatnonzero(sizes[plan] > 1)]


def _runs(reference: Vector, current: Vector) -> list[NDArray[np.int64]]:
    """Runs of neighbours that one side leaves almost empty: under one record in a thousand."""
    runs: list[NDArray[np.int64]] = []
    for side in (reference, current):
        empty = side < 0.001 * side.sum() / max(len(side), 1)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], empty, [False]]).astype(int)))
        runs += [np.arange(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    seen: set[int] = set()
    apart: list[NDArray[np.int64]] = []
    for run in runs:
        if not seen.intersection(run.tolist()) and len(run) < len(reference):
            seen.update(run.tolist())
            apart.append(run)
    return apart


def coarse_table(table: NDArray[np.float64], plan: Sequence[int]) -> NDArray[np.float64]:
    """Columns of `table` (devices, fine bins) summed by merged bin."""
    width = max(plan, default=-1) + 1
    merged = np.zeros((len(table), width))
    np.add.at(merged.T, np.asarray(plan, dtype=int), np.asarray(table, dtype=float).T)
    return merged
