"""What a device may say of its self-test, by type and size; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.exceptions import InvalidFleetInputError

MAX_ROWS = 1_000_000
MAX_LATENCY_MS = 86_400_000
MAX_PROCESSOR = 100
MAX_SETS = 8
_SET = re.compile(r"[a-z0-9_.]{1,24}")


@dataclass(frozen=True)
class SelfTestReport:
    """The figures of one self-test; `docs/protocol.md` says what each is."""

    rows: int
    agreed: int
    labelled: int
    right: int
    latency_ms: float | None
    processor: str
    isa: tuple[str, ...]


def check_self_test(value: Any) -> SelfTestReport | None:
    """The self-test in an installation's event; None for an agent that tells none.

    Raises:
        InvalidFleetInputError: a field of another type than the protocol's, or out of bounds.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidFleetInputError("self_test: expected an object")
    rows = _count(value, "rows", 1, MAX_ROWS)
    agreed = _count(value, "agreed", 0, rows)
    labelled = _count(value, "labelled", 0, rows, default=0)
    right = _count(value, "right", 0, labelled, default=0)
    latency = value.get("latency_ms")
    if latency is not None and not (
        isinstance(latency, int | float)
        and not isinstance(latency, bool)
        and math.isfinite(latency)
        and 0 <= latency <= MAX_LATENCY_MS
    ):
        raise InvalidFleetInputError(
            f"self_test.latency_ms: expected 0 to {MAX_LATENCY_MS} milliseconds; got {latency!r}"[
                :300
            ]
        )
    processor = value.get("processor", "")
    if not (isinstance(processor, str) and len(processor) <= MAX_PROCESSOR):
        raise InvalidFleetInputError(
            f"self_test.processor: expected a text of at most {MAX_PROCESSOR} characters"
        )
    isa = value.get("isa", [])
    if not (
        isinstance(isa, list)
        and len(isa) <= MAX_SETS
        and all(isinstance(name, str) and _SET.fullmatch(name) for name in isa)
    ):
        raise InvalidFleetInputError(
            f"self_test.isa: expected at most {MAX_SETS} names of small letters, digits, _ and ."
        )
    return SelfTestReport(
        rows, agreed, labelled, right, latency, processor.strip(), tuple(sorted(set(isa)))
    )


def _count(
    value: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None
) -> int:
    number = value.get(name, default)
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise InvalidFleetInputError(
            f"self_test.{name}: expected a whole number from {low} to {high}; got {number!r}"[:300]
        )
    return number
