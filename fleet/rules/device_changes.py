"""How much more the canaries changed than the control, the unit being the device; pure.

For a mean over records (confidence, errors, the share of a class) each device gives one number,

    y = its mean on the target − b · its own mean on the release before,

and the effect is the mean of y over canaries minus the mean over control devices (difference in
differences), b being 1 but where pasts are short (`own_past`). What a device always does
differently cancels in y; what happens to every device at the same time, the weather, cancels
between the two sides.

Weights: a device with few records weighs less. With v the variance of y that the device's own
records leave, and τ² how much devices truly differ in their change, its weight is 1 / (τ² + v).

Sources: τ² by moments: DerSimonian and Laird, Controlled Clinical Trials 7 (1986), over both sides
together. Variance of a weighted mean that holds with few devices: Hartung and Knapp, Statistics in
Medicine 20 (2001), with Kish's effective number ("Survey Sampling", 1965, sec. 11.7) as its degrees
of freedom where weights differ. Degrees of the difference: Welch, Biometrika 34 (1947).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
#: Fewer devices a side have no variance between them.
MIN_DEVICES = 2


@dataclass(frozen=True)
class Changes:
    """One side's devices.

    Attributes:
        values: y of each device, float64 of shape (devices,) or (devices, K) for K effects at once.
        variances: of each y, as far as the device's own records explain it; same shape, > 0.
        fixed: the part of `variances` that the past leaves, which grows no more; None for none.
    """

    values: Array
    variances: Array
    fixed: Array | None = None

    @property
    def devices(self) -> int:
        return int(self.values.shape[0])


@dataclass(frozen=True)
class Effect:
    """The estimate with what it rests on; arrays of shape () or (K,).

    Attributes:
        between: τ², the part of the variance of y that more records cannot remove.
        within: mean variance of y that more records would remove.
        fixed: mean variance of y that the devices' past leaves.
    """

    estimate: Array
    error: Array
    degrees: Array
    between: Array
    within: Array
    canaries: int
    controls: int
    fixed: Array


def estimate_effect(canary: Changes, control: Changes | None) -> Effect | None:
    """Canary minus control, or the canaries' own change when there is no control.

    None with fewer than two devices on a side: then nothing tells chance from change.
    """
    sides = [canary] if control is None else [canary, control]
    if any(side.devices < MIN_DEVICES for side in sides):
        return None
    between = between_devices(sides)
    means, squares, freedoms = zip(*(_weighted_mean(side, between) for side in sides), strict=True)
    estimate = means[0] - (means[1] if control is not None else 0.0)
    return Effect(
        estimate=estimate,
        error=np.sqrt(sum(squares)),
        degrees=_degrees(list(squares), list(freedoms)),
        between=between,
        within=_mean([side.variances - _fixed(side) for side in sides]),
        canaries=canary.devices,
        controls=control.devices if control is not None else 0,
        fixed=_mean([_fixed(side) for side in sides]),
    )


def _fixed(side: Changes) -> Array:
    return np.zeros_like(side.variances) if side.fixed is None else side.fixed


def _mean(rows: Sequence[Array]) -> Array:
    return np.asarray(np.mean(np.concatenate(rows), axis=0))


def between_devices(sides: Sequence[Changes]) -> Array:
    """τ²: how much devices of one side differ beyond what their records explain; at least 0."""
    excess = scale = np.asarray(0.0)
    for side in sides:
        weights = 1 / side.variances
        total = weights.sum(axis=0)
        mean = (weights * side.values).sum(axis=0) / total
        excess = excess + (weights * (side.values - mean) ** 2).sum(axis=0) - (side.devices - 1)
        scale = scale + total - (weights**2).sum(axis=0) / total
    return np.asarray(np.maximum(excess / scale, 0.0))


def _weighted_mean(side: Changes, between: Array) -> tuple[Array, Array, Array]:
    """Mean, its variance, and the degrees of freedom of that variance."""
    weights = 1 / (between + side.variances)
    total = weights.sum(axis=0)
    mean = (weights * side.values).sum(axis=0) / total
    spread = (weights * (side.values - mean) ** 2).sum(axis=0) / ((side.devices - 1) * total)
    # Devices that agree by luck must not seem more certain than their records allow.
    least = 1 / (1 / side.variances).sum(axis=0)
    effective = total**2 / (weights**2).sum(axis=0)
    return mean, np.maximum(spread, least), np.maximum(effective - 1, 0.5)


def _degrees(squares: list[Array], freedoms: list[Array]) -> Array:
    """Both sides' degrees together, or Welch's where their variances plainly differ."""
    if len(squares) == 1:
        return freedoms[0]
    per_device = [square * (freedom + 1) for square, freedom in zip(squares, freedoms, strict=True)]
    high, low = np.maximum(*per_device), np.minimum(*per_device)
    is_first_high = per_device[0] >= per_device[1]
    above = np.where(is_first_high, freedoms[0], freedoms[1])
    below = np.where(is_first_high, freedoms[1], freedoms[0])
    differs = high > stats.f.isf(0.05, above, below) * low
    total = squares[0] + squares[1]
    parts = squares[0] ** 2 / freedoms[0] + squares[1] ** 2 / freedoms[1]
    return np.asarray(np.where(differs, total**2 / parts, freedoms[0] + freedoms[1]))
