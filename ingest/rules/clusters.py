"""Counts of many devices in at most `GROUPS` rows, which is enough to tell how devices differ.

While they are few, each device has a row of its own. Beyond that a row is the sum of a random group
of devices: sums of groups give the design effect that sums of devices give, whatever their number,
and add up over windows, slices and partial sums in any order.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.rules.windows import WindowCounts

Ints = NDArray[np.int64]
GROUPS = 64
KNOWN = 1024
"""Devices that are remembered by name: those with the smallest hashes, the same ones every time.
What they are to all, that is how many there are (Bar-Yossef et al., RANDOM 2002): exact up to so
many, then within 3 %."""
SUMS = tuple(
    item.name for item in fields(WindowCounts) if item.type in ("int", "float", int, float)
)
_FEATURE = "feature:"
_AT = {name: number for number, name in enumerate(SUMS)}


@dataclass(frozen=True)
class Clusters:
    """One row for each device, or for each group of devices.

    Attributes:
        ids: of the device or the group of each row, ascending, shape (R,).
        is_grouped: whether rows are groups.
        known: ids of at most `KNOWN` of the devices, by their hash.
        sums: of the fields `SUMS`, float64 of shape (R, len(SUMS)).
        parts: by name, the first bin and the counts from it on, int64 of shape (R, bins).
    """

    ids: Ints
    is_grouped: bool
    known: Ints
    sums: NDArray[np.float64]
    parts: dict[str, tuple[int, Ints]]

    @property
    def devices(self) -> int:
        """How many devices there are; an estimate beyond `KNOWN`."""
        if len(self.known) < KNOWN:
            return len(self.known)
        largest = float(_hashes(self.known[-1:])[0]) / 2**64
        return round((KNOWN - 1) / largest)

    def column(self, name: str) -> NDArray[np.float64]:
        """A field of `SUMS` by row, float64 of shape (R,)."""
        return self.sums[:, _AT[name]]

    def total(self, name: str) -> int:
        """The sum of `column`."""
        return round(float(self.column(name).sum()))

    def table(self, name: str, width: int = 0) -> NDArray[np.float64]:
        """`confidence`, `classes` or a feature by row and bin, at least `width` bins wide."""
        _, counts = self.parts.get(name, (0, np.zeros((len(self.ids), 0), np.int64)))
        table = np.zeros((len(self.ids), max(width, counts.shape[1])))
        table[:, : counts.shape[1]] = counts
        return table

    def feature(self, name: str, width: int = 0) -> NDArray[np.float64]:
        """`table` of a feature."""
        return self.table(_FEATURE + name, width)

    def latency_counts(self) -> dict[int, int]:
        """All latencies by bin."""
        low, counts = self.parts.get("latency", (0, np.zeros((0, 0), np.int64)))
        totals = counts.sum(axis=0)
        return {low + int(at): int(totals[at]) for at in np.flatnonzero(totals)}

    def latency_above(self, edge: int) -> NDArray[np.float64]:
        """Latencies above the bin `edge` and not, shape (R, 2)."""
        low, counts = self.parts.get("latency", (0, np.zeros((len(self.ids), 0), np.int64)))
        over = counts[:, max(edge + 1 - low, 0) :].sum(axis=1)
        return np.column_stack([over, counts.sum(axis=1) - over]).astype(float)

    def rows(self) -> list[WindowCounts]:
        """The counts of each row."""
        found = []
        for at in range(len(self.ids)):
            row = WindowCounts()
            for number, name in enumerate(SUMS):
                value = float(self.sums[at, number])
                setattr(row, name, value if "sum" in name else round(value))
            for name, (low, counts) in self.parts.items():
                values = counts[at]
                if name == "latency":
                    row.latency = {low + int(i): int(values[i]) for i in np.flatnonzero(values)}
                elif name.startswith(_FEATURE):
                    row.features[name.removeprefix(_FEATURE)] = values.tolist()
                else:
                    setattr(row, name, values.tolist())
            found.append(row)
        return found

    def pack(self) -> bytes:
        """Bytes that `unpack` reads: matrices in the narrowest numbers that hold them, deflated."""
        plain = {
            "ids": _pack_array(self.ids),
            "is_grouped": self.is_grouped,
            "known": _pack_array(self.known),
            "sums": self.sums.astype("<f8").tobytes(),
            "parts": {
                name: [low, counts.shape[1], _pack_array(counts.reshape(-1))]
                for name, (low, counts) in self.parts.items()
            },
        }
        return zlib.compress(msgspec.msgpack.encode(plain), 1)


def unpack(data: bytes, only: Collection[str] | None = None) -> Clusters:
    """What `pack` made `data` from; with `only`, of these parts alone."""
    plain = msgspec.msgpack.decode(zlib.decompress(data))
    ids = _unpack_array(plain["ids"])
    return Clusters(
        ids,
        bool(plain["is_grouped"]),
        _unpack_array(plain["known"]),
        np.frombuffer(plain["sums"], "<f8").reshape(len(ids), len(SUMS)),
        {
            name: (low, _unpack_array(counts).reshape(len(ids), width))
            for name, (low, width, counts) in plain["parts"].items()
            if only is None or name in only
        },
    )


def _pack_array(values: Ints) -> list[object]:
    kinds = ("<i1", "<i2", "<i4", "<i8")
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    kind = next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return [kind, values.astype(kind).tobytes()]


def _unpack_array(packed: Sequence[object]) -> Ints:
    kind, data = packed
    return np.frombuffer(data, str(kind)).astype(np.int64)  # type: ignore[call-overload,no-any-return]


def clusters_of(devices: Mapping[int, WindowCounts]) -> Clusters:
    """The counts of `devices`, by id."""
    return _gather(_rows_of(sorted(devices), devices))


def clusters_of_rows(rows: Sequence[WindowCounts]) -> Clusters:
    """One cluster for each of `rows`, whatever their number."""
    return _rows_of(range(len(rows)), rows)


def _rows_of(
    ids: Sequence[int], counts: Mapping[int, WindowCounts] | Sequence[WindowCounts]
) -> Clusters:
    rows = [counts[at] for at in ids]
    sums = np.array([[getattr(row, name) for name in SUMS] for row in rows], float)
    parts: dict[str, tuple[int, Ints]] = {}
    for name in ("confidence", "classes"):
        _put(parts, name, [getattr(row, name) for row in rows])
    keys = [key for row in rows for key in row.latency]
    if keys:
        low = min(keys)
        table = np.zeros((len(rows), max(keys) - low + 1), np.int64)
        for at, row in enumerate(rows):
            if row.latency:
                table[at, np.fromiter(row.latency, np.int64) - low] = list(row.latency.values())
        parts["latency"] = (low, table)
    for name in sorted({name for row in rows for name in row.features}):
        _put(parts, _FEATURE + name, [row.features.get(name, []) for row in rows])
    found = np.asarray(list(ids), np.int64)
    return Clusters(found, False, keep_known(found), sums.reshape(len(rows), len(SUMS)), parts)


def _put(parts: dict[str, tuple[int, Ints]], name: str, rows: Sequence[Sequence[int]]) -> None:
    width = max(map(len, rows), default=0)
    if not width:
        return
    table = np.zeros((len(rows), width), np.int64)
    for at, row in enumerate(rows):
        table[at, : len(row)] = row
    parts[name] = (0, table)


def merge_clusters(parts: Iterable[Clusters]) -> Clusters:
    """All `parts` together; no rows for none. Order and grouping of merges do not matter."""
    found = [part for part in parts if len(part.ids)]
    if not found:
        return _rows_of([], [])
    if len(found) == 1:
        return found[0]
    known = keep_known(np.unique(np.concatenate([part.known for part in found])))
    if all(part.is_grouped and len(part.ids) == GROUPS for part in found):
        return _add_up(found, known)
    is_grouped = any(part.is_grouped for part in found) or len(known) > GROUPS
    owners = [_groups(part) if is_grouped else part.ids for part in found]
    ids, at = np.unique(np.concatenate(owners), return_inverse=True)
    places = np.split(at, np.cumsum([len(part.ids) for part in found])[:-1])
    sums = np.zeros((len(ids), len(SUMS)))
    for part, place in zip(found, places, strict=True):
        np.add.at(sums, place, part.sums)
    merged: dict[str, tuple[int, Ints]] = {}
    for name in dict.fromkeys(name for part in found for name in part.parts):
        pieces = [
            (place, *part.parts[name])
            for part, place in zip(found, places, strict=True)
            if name in part.parts
        ]
        low = min(first for _, first, _ in pieces)
        high = max(first + counts.shape[1] for _, first, counts in pieces)
        table = np.zeros((len(ids), high - low), np.int64)
        for place, first, counts in pieces:
            span = slice(first - low, first - low + counts.shape[1])
            if len(np.unique(place)) == len(place):
                table[place, span] += counts
            else:
                np.add.at(table[:, span], place, counts)
        merged[name] = (low, table)
    return Clusters(ids, is_grouped, known, sums, merged)


def _add_up(found: Sequence[Clusters], known: Ints) -> Clusters:
    """As `merge_clusters`, of parts that have all the groups: matrices of the same rows."""
    sums = np.sum([part.sums for part in found], axis=0)
    merged: dict[str, tuple[int, Ints]] = {}
    for name in dict.fromkeys(name for part in found for name in part.parts):
        pieces = [part.parts[name] for part in found if name in part.parts]
        low = min(first for first, _ in pieces)
        high = max(first + counts.shape[1] for first, counts in pieces)
        table = np.zeros((GROUPS, high - low), np.int64)
        for first, counts in pieces:
            table[:, first - low : first - low + counts.shape[1]] += counts
        merged[name] = (low, table)
    return Clusters(found[0].ids, True, known, sums, merged)


def _gather(clusters: Clusters) -> Clusters:
    """Groups in place of devices where there are too many."""
    if clusters.is_grouped or len(clusters.ids) <= GROUPS:
        return clusters
    owners = _groups(clusters)
    ids, at = np.unique(owners, return_inverse=True)
    sums = np.zeros((len(ids), len(SUMS)))
    np.add.at(sums, at, clusters.sums)
    parts = {}
    for name, (low, counts) in clusters.parts.items():
        table = np.zeros((len(ids), counts.shape[1]), np.int64)
        np.add.at(table, at, counts)
        parts[name] = (low, table)
    return Clusters(ids, True, clusters.known, sums, parts)


def gather_table(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of counts by device as they are judged: summed by group where there are too many."""
    if len(table) <= GROUPS:
        return table
    gathered = np.zeros((GROUPS, table.shape[1]), table.dtype)
    np.add.at(gathered, group_of(np.arange(len(table))), table)
    return gathered


def group_of(devices: Ints) -> Ints:
    """The group of each device id, 0 ... `GROUPS` - 1."""
    return (_hashes(devices) % np.uint64(GROUPS)).astype(np.int64)


def pick_devices(cells: Mapping[str, Clusters], most: int) -> dict[int, str]:
    """At most `most` devices with the cell of each, the same ones every time."""
    cell_of = {int(pk): name for name, cell in cells.items() for pk in cell.known}
    ids = np.fromiter(cell_of, np.int64, len(cell_of))
    return {int(pk): cell_of[int(pk)] for pk in ids[np.argsort(_hashes(ids))][:most]}


def _groups(clusters: Clusters) -> Ints:
    return clusters.ids if clusters.is_grouped else group_of(clusters.ids)


def keep_known(devices: Ints) -> Ints:
    """At most `KNOWN` of `devices`, the smallest hash first."""
    return devices[np.argsort(_hashes(devices), kind="stable")][:KNOWN]


def _hashes(values: Ints) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): ids that follow each other fall apart."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
