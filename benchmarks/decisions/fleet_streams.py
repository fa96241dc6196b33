"""Counts of simulated fleets, each from a generator of its own seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Table = NDArray[np.int64]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A fleet at rest.

    Attributes:
        concentration: of the Dirichlet distribution of the devices' own class mixes; infinite for
            devices that are all alike, 3 for devices that each see something else.
        reference_devices: devices behind the reference; 0 for independent rows.
        is_even: whether devices send equally many records; else as 1/rank.
    """

    name: str
    devices: int = 100
    records: int = 5000
    classes: int = 10
    concentration: float = float("inf")
    reference_records: int = 5000
    reference_devices: int = 0
    is_even: bool = True


NULL_SETTINGS = (
    Setting("independent records"),
    Setting("500 records", records=500),
    Setting("reference of 200 rows", reference_records=200, records=20_000),
    Setting("reference of 20 devices", 200, 20_000, 10, 10.0, 10_000, 20),
    Setting("reference of 20 very unlike devices", 200, 20_000, 10, 3.0, 10_000, 20),
    Setting("unlike devices", 100, 20_000, 10, 10.0),
    Setting("very unlike devices", 100, 20_000, 10, 3.0),
    Setting("20 very unlike devices", 20, 4000, 10, 3.0),
    Setting("5 very unlike devices", 5, 2000, 10, 3.0),
    Setting("a few busy devices", 200, 20_000, 10, 10.0, is_even=False),
    Setting("two classes", classes=2, records=2000),
    Setting("201 classes", classes=201, records=20_000, concentration=10.0),
    Setting("1,000 classes", classes=1000, records=20_000),
)


def class_mix(classes: int) -> Shares:
    """Shares that fall as 1/rank: some classes are rare."""
    shares = 1 / np.arange(1, classes + 1)
    return np.asarray(shares / shares.sum())


def true_psi(p: Shares, q: Shares) -> float:
    """The PSI of two distributions."""
    return float(((p - q) * np.log(p / q)).sum())


def shifted(p: Shares, psi: float, rng: np.random.Generator) -> Shares:
    """`p` tilted in a random direction until its PSI to `p` is `psi`."""
    if psi <= 0:
        return p
    direction = rng.normal(size=len(p))
    direction /= np.abs(direction).max()

    def tilted(by: float) -> Shares:
        weights = p * np.exp(by * direction)
        return np.asarray(weights / weights.sum())

    return tilted(float(optimize.brentq(lambda by: true_psi(p, tilted(by)) - psi, 0.0, 60.0)))


def device_mixes(rng: np.random.Generator, p: Shares, devices: int, concentration: float) -> Shares:
    """Each device's own class mix, shape (devices, classes)."""
    if np.isinf(concentration):
        return np.tile(p, (devices, 1))
    drawn = rng.gamma(np.maximum(concentration * p, 1e-9), size=(devices, len(p)))
    empty = drawn.sum(axis=1) <= 0
    drawn[empty, 0] = 1.0
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def fleet_counts(
    rng: np.random.Generator, p: Shares, devices: int, records: int, setting: Setting
) -> Table:
    """Counts per device and class, with one empty column for classes beyond the label map."""
    weights = np.ones(devices) if setting.is_even else 1 / np.arange(1, devices + 1)
    each = np.maximum(1, np.round(records * weights / weights.sum())).astype(int)
    mixes = device_mixes(rng, p, devices, setting.concentration)
    rows = [rng.multinomial(n, mix) for n, mix in zip(each, mixes, strict=True)]
    return np.hstack([np.array(rows), np.zeros((devices, 1), dtype=int)])
