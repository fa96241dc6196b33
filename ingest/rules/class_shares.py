"""Which class's share changed more on the canaries than on the control; pure.

A PSI pools rare classes, so a collapse onto one class of many moves it little or not at all. Here
every class of the label map is one effect of its own, the change of its share at the device.

With K classes looked at together, one must not fail because there are many: each gets α / 2K on
either side (Bonferroni; Holm, Scand. J. Statist. 6 (1979), whose first step that is, lets the next
classes be named with less). To pass, *every* class must lie within its margin, and such a claim
needs no correction (intersection-union test: Berger, Technometrics 24 (1982)).

With many classes few devices know each class's variance badly, and all classes together know it
well: each variance is drawn towards what chance and the common design effect explain, the more so
the more alike classes are in this (moderated t: Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004),
sec. 6).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

from fleet.rules.confidence_sequence import ALPHA, confidence_interval
from fleet.rules.device_changes import Changes, Effect

Array = NDArray[np.float64]
#: Classes with at least so many expected records a side say something of the common variance.
_ENOUGH_RECORDS = 5.0
#: A change of two points of share is never a fault by itself.
LEAST_MARGIN = 0.02
_ENOUGH_CLASSES = 8


@dataclass(frozen=True)
class ShareChange:
    """The class that decides, and what is decided.

    Attributes:
        class_id: the class nearest to, or furthest beyond, its margin.
        change: its change in share, canary minus control, −1 … 1.
        lower, upper: ends of the size of its change, 0 … 1, at the level that decides.
        margin: what its share may change by.
        failing: all classes that are beyond their margin, largest first.
        is_within: every class is within its margin.
    """

    class_id: int
    change: float
    lower: float
    upper: float
    margin: float
    failing: tuple[int, ...]
    is_within: bool


def share_margins(expected: Array, psi: float) -> tuple[Array, Array]:
    """How far each class's share may rise and fall before that alone is a PSI of `psi`.

    Of two bins, the class and all others, (p′ − p) (ln(p′ / p) − ln((1 − p′) / (1 − p))); merging
    bins never raises a PSI, so a class beyond its margin proves a PSI above `psi`. At least
    `LEAST_MARGIN`: a rare class that vanishes is no collapse.
    """
    p = np.clip(expected, 1e-6, 1 - 1e-6)
    ends = []
    for goal in (np.ones_like(p), np.zeros_like(p)):
        near, far = np.zeros_like(p), np.ones_like(p)
        for _ in range(40):
            middle = (near + far) / 2
            moved = np.clip(p + middle * (goal - p), 1e-12, 1 - 1e-12)
            found = (moved - p) * (np.log(moved / p) - np.log((1 - moved) / (1 - p)))
            near, far = np.where(found < psi, middle, near), np.where(found < psi, far, middle)
        ends.append(np.maximum(near * np.abs(goal - p), LEAST_MARGIN))
    return ends[0], ends[1]


def share_changes(after: Array, before: Array | None) -> Changes:
    """Each device's change of every class's share; counts of shape (devices, K), rows not empty.

    Without `before` the shares themselves, for a plain difference between two sides.
    """
    n_after = after.sum(axis=1, keepdims=True)
    shares = after / n_after
    total = after.sum(axis=0)
    variance = 1 / n_after
    fixed = np.zeros_like(variance)
    if before is not None:
        n_before = before.sum(axis=1, keepdims=True)
        shares = shares - before / n_before
        total = total + before.sum(axis=0)
        fixed = 1 / n_before
        variance = variance + fixed
    # Half a count in each class (Jeffreys), so that a class not seen yet is not certain.
    smooth = (total + 0.5) / (total.sum() + 0.5 * len(total))
    own = smooth * (1 - smooth)
    return Changes(shares, own * variance, own * fixed)


def judge_shares(
    effect: Effect, expected: Array, rise: Array, fall: Array, alpha: float = ALPHA
) -> ShareChange:
    """Which class decides.

    Args:
        effect: of `share_changes`, one entry a class.
        expected: share of each class without a change, 0 … 1; shape (K,).
        rise, fall: how far each share may rise and fall; shape (K,), > 0.
    """
    effect = _moderated(effect, expected)
    many = len(rise)
    estimate = effect.estimate
    size = np.abs(estimate)
    margins = np.where(estimate >= 0, rise, fall)
    others = np.where(estimate >= 0, fall, rise)
    strict = confidence_interval(size, effect.error, effect.degrees, margins, alpha / (2 * many))
    plain = confidence_interval(size, effect.error, effect.degrees, margins, alpha)
    beyond = strict.lower > margins
    within = (plain.upper <= margins) & (-plain.lower <= others)
    if beyond.any():
        order = np.argsort(-(strict.lower - margins))
        worst = int(order[0])
        failing = _holm(effect, size, margins, alpha, order)
    else:
        worst = int(np.argmax(plain.upper - margins))
        failing = ()
    return ShareChange(
        class_id=worst,
        change=float(estimate[worst]),
        lower=max(float(strict.lower[worst]), 0.0),
        upper=float(plain.upper[worst]),
        margin=float(margins[worst]),
        failing=failing,
        is_within=bool(within.all()),
    )


def _holm(
    effect: Effect, size: Array, margins: Array, alpha: float, order: NDArray[np.intp]
) -> tuple[int, ...]:
    """Classes beyond their margin by Holm's steps, clearest first."""
    found: list[int] = []
    for rank, index in enumerate(order.tolist()):
        level = alpha / (2 * (len(margins) - rank))
        ends = confidence_interval(
            size[index], effect.error[index], effect.degrees[index], margins[index], level
        )
        if ends.lower <= margins[index]:
            break
        found.append(int(index))
    return tuple(found)


def _moderated(effect: Effect, expected: Array) -> Effect:
    """The effect with each class's error drawn towards the common one."""
    # A share that has grown varies as the larger one does.
    moved = np.clip(expected + effect.estimate, 0.0, 1.0)
    chance = np.maximum(np.maximum(expected * (1 - expected), moved * (1 - moved)), 1e-12)
    square = effect.error**2
    records = 1 / np.maximum((square / chance), 1e-12)
    used = expected * records > _ENOUGH_RECORDS
    if used.sum() < _ENOUGH_CLASSES:
        return effect
    degrees = float(np.median(effect.degrees))
    logs = np.log(square[used] / chance[used])
    # Of a variance with d degrees, the log has mean ψ(d/2) − ln(d/2) and variance ψ′(d/2).
    spread = float(np.var(logs, ddof=1)) - float(polygamma(1, degrees / 2))
    shift = float(polygamma(0, degrees / 2)) - np.log(degrees / 2)
    if spread <= 0:
        prior = 1e6
        common = float(np.exp(logs.mean() - shift))
    else:
        prior = 2 * _inverse_trigamma(spread)
        common = float(np.exp(logs.mean() - shift + polygamma(0, prior / 2) - np.log(prior / 2)))
    # Changes of shares on one device hang together: no more degrees than the devices' own, tenfold.
    prior = min(prior, 9 * degrees)
    pooled = (prior * common * chance + degrees * square) / (prior + degrees)
    freedom = np.full_like(square, prior + degrees)
    return replace(effect, error=np.sqrt(pooled), degrees=freedom)


def _inverse_trigamma(value: float) -> float:
    """The x with ψ′(x) = value, by Newton's steps as in Smyth (2004), appendix."""
    x = 0.5 + 1 / value
    for _ in range(50):
        step = polygamma(1, x) * (1 - polygamma(1, x) / value) / polygamma(2, x)
        x += step
        if abs(step) < 1e-9 * x:
            break
    return float(x)
