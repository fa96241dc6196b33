"""Which rows of a pool make a good calibration set, and which side of a split a row is on. Pure.

Ranges that a quantizer has never seen are clipped, so rare strata must be present; but a set of
nothing but rare rows would calibrate for another fleet. Power allocation (Bankier 1988, "Power
Allocations: Determining Sample Sizes for Subnational Areas") with exponent 1/2 lies between the
two: a stratum with four times the rows gets twice the places.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_EDGES = (0.5, 0.7, 0.9)
"""Edges of the bands of confidence, each in (0, 1): below 0.5, to 0.7, to 0.9, above."""
EXPONENT = 0.5
MAX_ROWS = 200_000
"""The largest draw; what a calibrator can look at in minutes."""


def make_strata(
    class_ids: NDArray[np.int64], confidence: NDArray[np.floating]
) -> NDArray[np.int64]:
    """One stratum per class and band of confidence.

    Args:
        class_ids: [N], the class a device answered; negative where it gave none.
        confidence: [N] in [0, 1]; NaN where it gave none, which is a band of its own.

    Returns:
        [N] numbers from 0, consecutive, the same for rows of the same stratum.
    """
    band = np.digitize(np.nan_to_num(confidence, nan=-1.0), (0.0, *CONFIDENCE_EDGES))
    width = len(CONFIDENCE_EDGES) + 2
    keys = np.maximum(class_ids, -1).astype(np.int64) * width + band
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)


def allocate_places(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many rows each stratum gives.

    Args:
        sizes: rows in each stratum, each at least 1.
        count: rows wanted, at least 0; all rows when there are not more.

    Returns:
        Places per stratum, none above its size, in all `min(count, sum(sizes))`. Every stratum has
        one while there are enough places.
    """
    places = np.zeros(len(sizes), dtype=np.int64)
    left = min(count, int(sizes.sum()))
    # Each round fills at least one stratum or places all that is left.
    while left > 0:
        is_open = places < sizes
        weights = np.where(is_open, sizes.astype(np.float64) ** EXPONENT, 0.0)
        share = left * weights / weights.sum()
        whole = np.minimum(np.floor(share).astype(np.int64), sizes - places)
        if not whole.any():
            # Fewer places than open strata: the largest remainders, empty strata first.
            order = np.lexsort((-share, places > 0, ~is_open))
            whole[order[:left]] = 1
        places += whole
        left -= int(whole.sum())
    if count >= len(sizes):
        _serve_every_stratum(places)
    return places


def _serve_every_stratum(places: NDArray[np.int64]) -> None:
    for index in np.flatnonzero(places == 0):
        places[np.argmax(places)] -= 1
        places[index] = 1


def draw_rows(
    strata: NDArray[np.int64], groups: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Row numbers of a stratified draw in which no group of a stratum crowds out the others.

    Within a stratum rows are taken from the groups in turn, so a device that sent a thousand rows
    weighs no more than one that sent ten until the ten are used up.

    Args:
        strata: [N] from `make_strata`.
        groups: [N], the device of each row.
        count: rows wanted; all rows when there are not more.
        seed: the same seed gives the same rows.

    Returns:
        Sorted row numbers without repeats.
    """
    if not len(strata):
        return np.zeros(0, dtype=np.int64)
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(strata))
    lottery = generator.permutation(int(groups.max()) + 1)
    chosen = []
    names, sizes = np.unique(strata, return_counts=True)
    for name, places in zip(names, allocate_places(sizes, count), strict=True):
        rows = shuffled[strata[shuffled] == name]
        order = np.argsort(lottery[groups[rows]], kind="stable")
        rows = rows[order]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(groups[rows])) + 1))
        turn = np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)]))
        chosen.append(rows[np.argsort(turn, kind="stable")][:places])
    return np.sort(np.concatenate(chosen))


def hash_rows(columns: list[NDArray]) -> list[bytes]:
    """A 16-byte digest of each row over all arrays, each [N, ...]."""
    return [
        hashlib.blake2b(b"".join(_bytes_of(c[row]) for c in columns), digest_size=16).digest()
        for row in range(len(columns[0]))
    ]


def _bytes_of(values: NDArray) -> bytes:
    """Of texts what they say, however wide the array is that holds them."""
    if values.dtype.kind in "US":
        return "\0".join(map(str, np.atleast_1d(values).reshape(-1).tolist())).encode()
    return bytes(values.tobytes())


def split_rows(
    hashes: list[bytes], labels: NDArray[np.int64] | None, share: float, seed: int
) -> NDArray[np.bool_]:
    """True for the rows of the first part of a split.

    Equal rows are always on the same side, so the parts are disjoint by content. Within each label
    the digests' order under the seed decides, so the shares of the labels are kept.

    Args:
        hashes: [N] from `hash_rows`.
        labels: [N], or None where there are none.
        share: of the distinct rows that go to the first part, in (0, 1).
    """
    salt = seed.to_bytes(8, "big")
    ranks: dict[int, list[tuple[bytes, bytes]]] = {}
    seen: set[bytes] = set()
    for row, digest in enumerate(hashes):
        if digest not in seen:
            seen.add(digest)
            rank = hashlib.blake2b(salt + digest, digest_size=8).digest()
            ranks.setdefault(0 if labels is None else int(labels[row]), []).append((rank, digest))
    first: set[bytes] = set()
    for found in ranks.values():
        found.sort()
        first.update(digest for _, digest in found[: round(len(found) * share)])
    return np.array([digest in first for digest in hashes], dtype=bool)
