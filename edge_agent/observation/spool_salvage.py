"""Reads what can be read of a damaged spool, page by page. Pure: bytes in, rows out.

SQLite gives up at the first damaged page on its way, and with it the rows behind it. Here every
page is read by itself, so a damaged one costs its own rows and no others. Pages that the database
has freed still hold old rows, which the server has long had: the pointer map says which those are,
and the list of free pages where that is damaged. A page of which nobody knows is left out: a record
lost is better than one counted twice.

Source: "Database File Format", sqlite.org/fileformat2.html, sections 1.3 (header), 1.5 (free list),
1.6 (b-tree pages), 1.8 (pointer map), 2.1 (records).
"""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PAGE_BYTES = 4096
TABLE_LEAF = 0x0D
BTREE_KINDS = frozenset({0x02, 0x05, 0x0A, TABLE_LEAF})
ROOT, FREE, OVERFLOW_FIRST, OVERFLOW_LATER, BTREE = 1, 2, 3, 4, 5
MAX_ROW_BYTES = 4 << 20
INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
Row = tuple[Any, ...]


@dataclass
class Salvaged:
    """Rows by table, each with its number first, and how many pages could not be read."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    pages: int = 0
    damaged_pages: int = 0


def salvage(data: bytes) -> Salvaged:
    """The rows of every table in the database file `data` whose page is whole."""
    if len(data) < PAGE_BYTES:
        return Salvaged({name: [] for name in SHAPES})
    found = Salvaged({name: [] for name in SHAPES}, pages=len(data) // PAGE_BYTES)
    kinds = read_kinds(data)
    for number in range(1, found.pages + 1):
        kind = kinds[number]
        if kind in (FREE, OVERFLOW_FIRST, OVERFLOW_LATER, None):
            found.damaged_pages += kind is None
            continue
        page = _page(data, number)
        start = 100 if number == 1 else 0
        if page[start] not in BTREE_KINDS:
            found.damaged_pages += 1
        elif page[start] == TABLE_LEAF:
            rows = list(read_leaf(data, number))
            found.damaged_pages += None in rows
            whole = [row for row in rows if row is not None]
            if any(len(row) == 2 and row[0] == "record" for row in whole):
                continue  # SQLite's own highest numbers, which look like counters
            for row in whole:
                table = find_table(row)
                if table is not None:
                    found.tables[table].append(row)
    return found


def read_kinds(data: bytes) -> dict[int, int | None]:
    """What each page is for, as the pointer map says; None for a page of which it cannot be told
    whether it is in use."""
    pages = len(data) // PAGE_BYTES
    free, is_list_whole = read_free_list(data)
    each = PAGE_BYTES // 5 + 1
    kinds: dict[int, int | None] = {1: ROOT}
    for number in range(2, pages + 1):
        map_page = (number - 2) // each * each + 2
        if number == map_page:
            kinds[number] = FREE  # the map itself: it holds no rows
            continue
        at = (map_page - 1) * PAGE_BYTES + 5 * (number - map_page - 1)
        kind, parent = data[at], int.from_bytes(data[at + 1 : at + 5], "big")
        is_valid = ROOT <= kind <= BTREE and parent <= pages
        is_valid = is_valid and (parent == 0) == (kind in (ROOT, FREE))
        if number in free:
            kinds[number] = FREE
        elif is_valid:
            kinds[number] = kind
        else:
            kinds[number] = BTREE if is_list_whole else None
    return kinds


def read_free_list(data: bytes) -> tuple[set[int], bool]:
    """The freed pages, and whether all of them could be told."""
    pages = len(data) // PAGE_BYTES
    trunk, count = struct.unpack_from(">II", data, 32)
    free: set[int] = set()
    while 0 < trunk <= pages and trunk not in free and len(free) <= count:
        free.add(trunk)
        page = _page(data, trunk)
        following, leaves = struct.unpack_from(">II", page)
        if leaves > PAGE_BYTES // 4 - 2:
            return free, False
        free.update(struct.unpack_from(f">{leaves}I", page, 8))
        trunk = following
    return free, len(free) == count


def read_leaf(data: bytes, number: int) -> Iterator[Row | None]:
    """The rows of a table's leaf page, the row's number in place of its first column; None for a
    cell that is damaged."""
    page = _page(data, number)
    start = 100 if number == 1 else 0
    (cells,) = struct.unpack_from(">H", page, start + 3)
    if 8 + start + 2 * cells > PAGE_BYTES:
        yield None
        return
    for (at,) in struct.iter_unpack(">H", page[start + 8 : start + 8 + 2 * cells]):
        try:
            size, at = read_varint(page, at)
            rowid, at = read_varint(page, at)
            yield decode_record(_read_payload(data, page, at, size), rowid)
        except (IndexError, ValueError, struct.error, UnicodeDecodeError):
            yield None


def _read_payload(data: bytes, page: bytes, at: int, size: int) -> bytes:
    """A cell's payload; what does not fit on the page lies in a chain of others (1.6)."""
    if not 0 < size <= MAX_ROW_BYTES:
        raise ValueError(f"a row of {size} bytes")
    most = PAGE_BYTES - 35
    if size <= most:
        local = size
    else:
        least = (PAGE_BYTES - 12) * 32 // 255 - 23
        local = least + (size - least) % (PAGE_BYTES - 4)
        local = least if local > most else local
    payload = bytearray(page[at : at + local])
    (following,) = struct.unpack_from(">I", page, at + local) if local < size else (0,)
    while len(payload) < size:
        if not 0 < following <= len(data) // PAGE_BYTES:
            raise ValueError("a chain that breaks off")
        later = _page(data, following)
        (following,) = struct.unpack_from(">I", later)
        payload += later[4 : 4 + size - len(payload)]
    return bytes(payload)


def decode_record(payload: bytes, rowid: int) -> Row:
    """The columns of a record; where the first is NULL it stands for the row's number (2.1)."""
    header_end, at = read_varint(payload, 0)
    kinds = []
    while at < header_end:
        kind, at = read_varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        if kind in INTEGER_BYTES:
            width = INTEGER_BYTES[kind]
            value: Any = int.from_bytes(payload[at : at + width], "big", signed=True)
        elif kind == 7:
            width, value = 8, struct.unpack_from(">d", payload, at)[0]
        elif kind in (0, 8, 9):
            width, value = 0, {0: None, 8: 0, 9: 1}[kind]
        elif kind >= 12:
            width = (kind - 12) // 2
            raw = payload[at : at + width]
            value = raw.decode() if kind % 2 else raw
        else:
            raise ValueError(f"a column of kind {kind}")
        values.append(value)
        at += width
    if at != len(payload):
        raise ValueError(f"a record of {at} bytes in {len(payload)}")
    if values and values[0] is None:
        values[0] = rowid
    return tuple(values)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The variable-length number at `at`, and where it ends."""
    value = 0
    for place in range(9):
        byte = data[at + place]
        if place == 8:
            value = value << 8 | byte
            break
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at + place + 1


def _page(data: bytes, number: int) -> bytes:
    return data[(number - 1) * PAGE_BYTES : number * PAGE_BYTES]


# Which table a row is of: a page does not say, and the tables' roots may be gone. Each has columns
# that no other has in their places.


def _is_object(value: Any) -> bool:
    try:
        return isinstance(value, str) and isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _is(value: Any, *kinds: type | None) -> bool:
    return any(value is None if kind is None else type(value) is kind for kind in kinds)


def _is_record(row: Row) -> bool:
    if len(row) not in (4, 5, 6) or not _is(row[0], int) or row[0] <= 0:
        return False
    return (
        _is(row[1], int) and row[1] in (0, 1, 2) and _is_object(row[2]) and _is(row[3], str, None)
    )


def _is_refused(row: Row) -> bool:
    is_numbered = 4 <= len(row) <= 7 and _is(row[0], int) and row[0] > 0
    return is_numbered and _is(row[1], str) and _is(row[2], str) and _is_object(row[3])


def _is_event(row: Row) -> bool:
    if len(row) not in (8, 9) or not all(_is(row[index], int) for index in (0, 2, 7)):
        return False
    if len(row) == 9 and not _is(row[8], str, None):
        return False
    return all(_is(row[index], str) for index in (1, 3, 4, 5)) and _is(row[6], int, float)


def _is_batch(row: Row) -> bool:
    is_named = len(row) == 3 and _is(row[0], str) and _is(row[1], str) and _is(row[2], int)
    return is_named and row[1].startswith("[")


def _is_boot(row: Row) -> bool:
    return len(row) == 2 and _is(row[0], int) and _is(row[1], str)


def _is_counter(row: Row) -> bool:
    return len(row) == 2 and _is(row[0], str) and _is(row[1], int)


SHAPES: dict[str, Callable[[Row], bool]] = {
    "record": _is_record,
    "refused": _is_refused,
    "event": _is_event,
    "batch": _is_batch,
    "boot": _is_boot,
    "counter": _is_counter,
}


def find_table(row: Row) -> str | None:
    """The table that has rows like `row`; None for those of SQLite itself."""
    return next((name for name, is_one in SHAPES.items() if is_one(row)), None)
