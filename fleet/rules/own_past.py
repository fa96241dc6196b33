"""How far a device's own past is to be trusted when two sides are compared; pure.

A device's past tells what the device always does, blurred by the chance of its records. With τ² how
much devices truly differ and v the variance of a device's past mean, taking off

    b = τ² / (τ² + v)

of the past leaves the least variance: all of it (b → 1) when the past is long, none of it when it
is so short that it would add more chance than it takes away. b is learnt from pasts alone, before
anything of the target is looked at, and is the same for both sides, so that the effect stays
unbiased and the interval holds. Sides must be alike but for the target, as cohorts drawn by hash
are. Source: Deng, Xu, Kohavi and Walker, "Improving the sensitivity of online controlled
experiments by utilizing pre-experiment data" (CUPED), WSDM 2013, sec. 3; b as the reliability of a
mean: Robinson, Statist. Sci. 6 (1991).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.rules.device_changes import Changes, between_devices

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OwnPast:
    """What the pasts of both sides' devices are worth; arrays of shape () or (K,).

    Attributes:
        between: τ², how much devices truly differ.
        within: v, the mean variance of a device's past mean.
    """

    between: Array
    within: Array

    @property
    def trust(self) -> Array:
        """b, 0 … 1."""
        return np.asarray(self.between / np.maximum(self.between + self.within, 1e-300))

    def leaves(self, times: float = 1.0) -> Array:
        """The variance of y that the past leaves, were it `times` as long."""
        within = self.within / times
        return np.asarray(self.between * within / np.maximum(self.between + within, 1e-300))


def weigh_past(sides: Sequence[Changes]) -> OwnPast:
    """What the pasts are worth: `sides` hold past means and their variances."""
    within = np.mean(np.concatenate([side.variances for side in sides]), axis=0)
    return OwnPast(between_devices(sides), np.asarray(within))
