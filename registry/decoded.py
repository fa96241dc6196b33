"""The one check of every decoded body and query: what no store of ours can keep is refused here.

Pure: values in, an error with the path out. PostgreSQL refuses U+0000, UTF-8 has no lone
surrogates, JSON columns have no NaN, integers have 64 bits, and what is deep or has many members
makes every later reader pay for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from registry.plain_text import is_storable, make_storable

MAX_DEPTH = 32
MAX_MEMBERS = 20_000
"""Keys and entries of a body, all levels together."""
MAX_KEY_CHARACTERS = 256
_INT64 = 2**63


class UnstorableValueError(ValueError):
    """A value that cannot be kept; `path` says where it is."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class NotJSONError(UnstorableValueError):
    """A body that is no JSON text in UTF-8 at all."""


def decode_json(body: bytes) -> Any:
    """The checked value of a JSON text in UTF-8.

    Raises:
        NotJSONError: the text cannot be parsed.
        UnstorableValueError: a value that `check_decoded` refuses.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnstorableValueError:
        raise
    except RecursionError as error:
        raise UnstorableValueError("$", f"more than {MAX_DEPTH} levels deep") from error
    except ValueError as error:
        raise NotJSONError("$", f"not JSON in UTF-8: {error}"[:200]) from error
    check_decoded(value)
    return value


def check_decoded(value: Any, path: str = "$") -> None:
    """Nothing, when all of a decoded body can be stored.

    Raises:
        UnstorableValueError: U+0000 or a lone surrogate in a text, an integer beyond 64 bits, a
            number that is not finite, over `MAX_DEPTH` levels, `MAX_MEMBERS` members, or a key
            longer than `MAX_KEY_CHARACTERS`.
    """
    waiting: list[tuple[Any, str, int]] = [(value, path, 0)]
    members = 0
    while waiting:
        item, where, depth = waiting.pop()
        if isinstance(item, str):
            _check_text(item, where)
        elif isinstance(item, bool) or item is None:
            continue
        elif isinstance(item, int):
            if not -_INT64 <= item < _INT64:
                raise UnstorableValueError(where, "an integer beyond 64 bits")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise UnstorableValueError(where, "a number that is not finite or out of range")
        elif isinstance(item, Mapping | list):
            members += len(item)
            if members > MAX_MEMBERS:
                raise UnstorableValueError(where, f"more than {MAX_MEMBERS} members in all")
            if depth >= MAX_DEPTH:
                raise UnstorableValueError(where, f"more than {MAX_DEPTH} levels deep")
            waiting += _members(item, where, depth + 1)


def _members(
    item: Mapping[str, Any] | list[Any], where: str, depth: int
) -> list[tuple[Any, str, int]]:
    if isinstance(item, list):
        return [(entry, f"{where}[{index}]", depth) for index, entry in enumerate(item)]
    found = []
    for key, entry in item.items():
        name = make_storable(str(key))[:64]
        if len(key) > MAX_KEY_CHARACTERS:
            raise UnstorableValueError(
                f"{where}.{name}", f"a name longer than {MAX_KEY_CHARACTERS} characters"
            )
        _check_text(key, f"{where}.{name}")
        found.append((entry, f"{where}.{name}"[:500], depth))
    return found


def _check_text(text: str, where: str) -> None:
    if not is_storable(text):
        raise UnstorableValueError(where, "a text with U+0000 or a lone surrogate")


def _refuse_constant(name: str) -> Any:
    raise UnstorableValueError("$", f"{name} is no number of JSON")
