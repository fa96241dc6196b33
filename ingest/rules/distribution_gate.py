"""Whether the canaries' predictions differ from what the control says they should be; pure.

Each device's change of shares, control's change taken off, gives the shares expected of the
canaries without an effect. The PSI between expected and seen is a square: it is never below zero,
and no interval around it holds at every look. So it is judged at geometrically spaced looks only,
each when the effective sample has doubled, the k-th with α_k = 6α / (π² k²), which sum to α.

With θ the effect on shares, V its covariance, estimated between devices on ν degrees, and P the
diagonal of expected shares, the PSI is about Σ θ_b² / p_b, distributed like a weighted sum of
chi-squares whose weights are the eigenvalues of M = P^-½ V P^-½. That sum is taken as κ times a
chi-square of m = tr(M)² / tr(M²) degrees, κ = tr(M) / m, noncentral with λ = PSI_true / κ. Where
devices differ most in the very direction of the effect, κ is the spread in that direction,
uᵀMu / uᵀu with u = P^-½ θ. V being an estimate, a tail probability is that of a Student variable
with νm degrees at the normal quantile of the chi-square's tail.

Beside it stands the largest change of one class's share (`class_shares`), which sees a collapse at
any number of classes. The gate fails when either does, each at α/2, and passes when both pass.

Sources: PSI: Yurdakul (2018). Corrected chi-squares: Rao and Scott, Ann. Statist. 12 (1984), with
few clusters Thomas and Rao, JASA 82 (1987); degrees: Satterthwaite, Biometrics 2 (1946). Spending
α over looks: Lan and DeMets, Biometrika 70 (1983), with 6 / (π² k²) as in Darling and Robbins, PNAS
58 (1967).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fleet.rules.confidence_sequence import ALPHA
from fleet.rules.device_changes import MIN_DEVICES, estimate_effect
from ingest.rules.class_shares import ShareChange, judge_shares, share_changes, share_margins

Array = NDArray[np.float64]
#: A class is a bin of its own with so many effective records on either side.
OWN_BIN_RECORDS = 10.0
MAX_BINS = 200
MAIN_SHARE = 0.9
ENOUGH_BINS = 0.75
#: A PSI that is not ruled out above this is bounded by nothing.
LARGEST_PSI = 100.0


@dataclass(frozen=True)
class Side:
    """Counts by class of one side's devices; float64 of shape (devices, K), rows not empty.

    `before` is each device's own past, or None for a plain difference.
    """

    after: Array
    before: Array | None


@dataclass(frozen=True)
class Look:
    """What the looks at the PSI so far said.

    Attributes:
        number: of looks at whether it is above; 0 before the first.
        passes: of those among them that also asked whether it is below.
        n_eff: effective records at the last look.
    """

    number: int = 0
    passes: int = 0
    n_eff: float = 0.0
    lower: float = 0.0
    upper: float = math.inf


@dataclass(frozen=True)
class Law:
    """The law of the PSI: `scale` times a chi-square of `degrees`, the scale known on `freedom`."""

    degrees: float
    scale: float
    freedom: float

    @property
    def n_eff(self) -> float:
        """Independent records that the comparison is worth."""
        return 1 / self.scale


NO_LOOK = Look()


@dataclass(frozen=True)
class DistributionAnswer:
    """The PSI now, what the last look said, and the class that changed most.

    Attributes:
        psi: between expected and seen, less what chance alone adds; ≥ 0.
        expected, seen: shares of the bins.
        n_eff: independent records that the comparison is worth now.
        next_look: effective records at which the PSI is looked at again.
        parts: of the variance, what devices differ by, what more records and a longer past remove.
    """

    psi: float
    expected: Array
    seen: Array
    n_eff: float
    look: Look
    next_look: float
    share: ShareChange
    parts: tuple[float, float, float]

    @property
    def bins(self) -> int:
        return len(self.expected)

    def is_failing(self, threshold: float) -> bool:
        """The PSI is above the threshold, or one class alone says that it is."""
        return self.look.lower > threshold or bool(self.share.failing)

    def is_passing(self, threshold: float) -> bool:
        """The PSI is at most the threshold, and every class is within its margin."""
        return self.look.upper <= threshold and self.share.is_within


def judge_distribution(
    canary: Side, control: Side | None, threshold: float, last: Look = NO_LOOK
) -> DistributionAnswer | None:
    """The answer on the counts so far; None with too few devices or fewer than two bins.

    Args:
        control: None for the canaries' own change alone.
        threshold: the PSI that is tolerated, > 0.
        last: the look before, as this function gave it.
    """
    sides = [canary] if control is None else [canary, control]
    if any(len(side.after) < MIN_DEVICES for side in sides):
        return None
    if control is None and canary.before is None:
        return None
    expected = _expected_shares(canary, control)
    seen = canary.after.sum(axis=0) / canary.after.sum()
    plan = group_classes(expected, seen, float(canary.after.sum()))
    if max(plan) < 1:
        return None
    law = _law(sides, plan, expected, seen)
    # Fewer independent records than records: bins must hold enough of those, and how many those
    # are depends a little on the bins.
    for _ in range(2):
        coarser = group_classes(expected, seen, law.n_eff)
        if max(coarser) < 1:
            break
        plan = coarser
        law = _law(sides, plan, expected, seen)
    bins = max(plan) + 1
    n_eff = law.n_eff
    p, q = _merge(expected[None], plan)[0], _merge(seen[None], plan)[0]
    smooth_p, smooth_q = ((n_eff * x + 0.5) / (n_eff + 0.5 * bins) for x in (p, q))
    raw = float(((smooth_p - smooth_q) * np.log(smooth_p / smooth_q)).sum())
    look = last
    due = max(2 * last.n_eff, 5.0 * bins)
    if n_eff >= due:
        look = _look_again(last, raw, law, bins >= ENOUGH_BINS * bins_to_pass(expected))
        due = 2 * n_eff
    effect = estimate_effect(
        share_changes(canary.after, canary.before),
        None if control is None else share_changes(control.after, control.before),
    )
    assert effect is not None
    rise, fall = share_margins(expected, threshold)
    weights = 1 / np.maximum(expected, 1e-6)
    between, within, fixed = (
        float((part * weights).sum()) for part in (effect.between, effect.within, effect.fixed)
    )
    return DistributionAnswer(
        psi=max(raw - law.degrees * law.scale, 0.0),
        expected=p,
        seen=q,
        n_eff=n_eff,
        look=look,
        next_look=due,
        share=judge_shares(effect, expected, rise, fall, ALPHA / 2),
        parts=(between, within, fixed),
    )


def bins_to_pass(expected: Array) -> int:
    """Bins from which the PSI may be said to be small.

    Classes that are pooled hide what happens among them: that can make a PSI too small, never too
    large. So there must be about as many bins as classes make up nine tenths of the expected
    answers, at most half of `MAX_BINS`.
    """
    falling = np.sort(expected)[::-1]
    main = int(np.searchsorted(np.cumsum(falling), MAIN_SHARE)) + 1
    return max(min(main, MAX_BINS // 2, len(falling)), 2)


def _look_again(last: Look, psi: float, law: Law, is_fine: bool) -> Look:
    """The next look; α is spent on each of the two questions apart."""

    def level(number: int) -> float:
        return 6 * ALPHA / (math.pi**2 * number**2)

    number, passes, upper = last.number + 1, last.passes, last.upper
    if is_fine:
        passes += 1
        upper = largest_psi(psi, law, level(passes))
    # FAIL shares its α with the classes.
    return Look(number, passes, law.n_eff, smallest_psi(psi, law, level(number) / 2), upper)


def smallest_psi(psi: float, law: Law, level: float) -> float:
    """The true PSI below which one of `psi` or more has a chance of at most `level`."""
    if psi_tail(psi, 0.0, law) > level:
        return 0.0
    low, high = 0.0, psi
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if psi_tail(psi, middle, law) <= level else (low, middle)
    return low


def largest_psi(psi: float, law: Law, level: float) -> float:
    """The true PSI above which one of `psi` or less has a chance of at most `level`."""
    low, high = psi, 2 * psi + 1e-6
    while psi_tail(psi, high, law) < 1 - level:
        low, high = high, 2 * high
        if high > LARGEST_PSI:
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        is_possible = psi_tail(psi, middle, law) < 1 - level
        low, high = (middle, high) if is_possible else (low, middle)
    return high


def psi_tail(psi: float, true: float, law: Law) -> float:
    """Probability of a PSI of at least `psi` at a true one."""
    shift = true / law.scale
    mean = law.degrees + shift
    # Sankaran's cube-like root of a noncentral chi-square (Biometrika 46, 1959) is normal enough.
    power = 1 - 2 * mean * (law.degrees + 3 * shift) / (3 * (law.degrees + 2 * shift) ** 2)
    part = (law.degrees + 2 * shift) / mean**2
    centre = 1 + power * part * (power - 1 - (2 - power) * (1 - 3 * power) * part / 2)
    width = power * math.sqrt(2 * part) * (1 + (1 - 3 * power) * (power - 1) * part / 2)
    z = ((psi / law.scale / mean) ** power - centre) / width
    return float(stats.t.sf(z, law.freedom))


def group_classes(expected: Array, seen: Array, records: float) -> list[int]:
    """Which bin each class is in; `records` is the effective number both shares rest on.

    A class that holds enough records on either side is a bin of its own, the largest first; the
    others form groups of about equal expected mass, each holding enough. Fewer than two bins mean
    that nothing can be compared.
    """
    largest = np.maximum(expected, seen) * records
    order = np.argsort(-largest, kind="stable")
    own = [int(index) for index in order if largest[index] >= OWN_BIN_RECORDS][: MAX_BINS // 2]
    rest = np.setdiff1d(np.arange(len(expected)), own)
    mass = (expected + seen)[rest] / 2 * records
    groups = int(min(mass.sum() // OWN_BIN_RECORDS, MAX_BINS // 2))
    plan = [0] * len(expected)
    for bin_number, index in enumerate(own):
        plan[index] = bin_number
    if groups == 0:
        # Too little for a bin: it goes with the smallest one.
        for index in rest:
            plan[int(index)] = max(len(own) - 1, 0)
        return plan
    # The middle of each class's mass says which group it falls into.
    middles = (np.cumsum(mass) - mass / 2) / mass.sum()
    inside = np.minimum((middles * groups).astype(int), groups - 1)
    _, numbers = np.unique(inside, return_inverse=True)
    for index, number in zip(rest.tolist(), numbers.tolist(), strict=True):
        plan[index] = len(own) + number
    return plan


def _expected_shares(canary: Side, control: Side | None) -> Array:
    """What the canaries' shares would be had they changed as the control did."""
    if canary.before is None:
        assert control is not None
        return np.asarray(control.after.sum(axis=0) / control.after.sum())
    # Weighted as `after` is, or a device that talks more now than before would seem a change.
    own = canary.before / canary.before.sum(axis=1, keepdims=True)
    weights = canary.after.sum(axis=1)
    shares = (own * weights[:, None]).sum(axis=0) / weights.sum()
    if control is not None and control.before is not None:
        now, then = (
            rows / rows.sum(axis=1, keepdims=True) for rows in (control.after, control.before)
        )
        weights = control.after.sum(axis=1)
        shares = shares + ((now - then) * weights[:, None]).sum(axis=0) / weights.sum()
    shares = np.clip(shares, 0.0, 1.0)
    return np.asarray(shares / shares.sum())


def _merge(rows: Array, plan: list[int]) -> Array:
    merged = np.zeros((len(rows), max(plan) + 1))
    np.add.at(merged.T, np.asarray(plan), rows.T)
    return merged


def _law(sides: list[Side], plan: list[int], expected: Array, seen: Array) -> Law:
    """The module's law for the bins of `plan`."""
    p = np.maximum(_merge(expected[None], plan)[0], 1e-6)
    bins = len(p)
    covariance = np.zeros((bins, bins))
    least = nu = 0.0
    for side in sides:
        after = _merge(side.after, plan)
        n = after.sum(axis=1)
        y = after / n[:, None]
        # Weighted by records, as the PSI of the summed counts is.
        weights = n / n.sum()
        variance = 1 / n
        if side.before is not None:
            before = _merge(side.before, plan)
            y = y - before / before.sum(axis=1, keepdims=True)
            variance = variance + 1 / before.sum(axis=1)
        centred = y - weights @ y
        effective = 1 / float((weights**2).sum())
        covariance += (centred * (weights**2)[:, None]).T @ centred / max(1 - 1 / effective, 0.25)
        least += float((weights**2 * variance).sum())
        nu += max(effective - 1, 0.5)
    root = 1 / np.sqrt(p)
    matrix = covariance * root[:, None] * root[None, :]
    trace, squares = float(np.trace(matrix)), float((matrix**2).sum())
    m = _degrees(trace, squares, nu, bins - 1.0)
    # Devices that agree by luck must not seem more certain than their records allow.
    scale = max(trace, least * (bins - 1)) / m
    direction = (_merge(seen[None], plan)[0] - p) * root
    length = float(direction @ direction)
    if length > 0:
        scale = max(scale, float(direction @ matrix @ direction) / length)
    return Law(degrees=m, scale=scale, freedom=nu * m)


def _degrees(trace: float, squares: float, nu: float, most: float) -> float:
    """m, from the traces of M and M²; few devices make tr(M²) too large, which is taken off.

    Of a sample covariance on ν degrees, E tr(S²) = (1 + 1/ν) tr(V²) + tr(V)² / ν (Srivastava,
    J. Japan Statist. Soc. 35 (2005), sec. 2).
    """
    if nu > 1.5:
        squares = (squares - trace**2 / nu) * nu**2 / ((nu - 1) * (nu + 2))
    if squares <= 0:
        return most
    return min(max(trace**2 / squares, 1.0), most)
