"""Dear counts are told again for a while; cheap ones, and those of one busy moment, never."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet import recount as module
from fleet.recount import CHEAP_SECONDS, WORTH, recount

START = datetime(2026, 1, 1, tzinfo=UTC)


class Fleet:
    """Something to count whose counts take as long as is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.takes, self.rows = 0.0, 0.0, 0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.clock)

    def count(self) -> int:
        self.clock += self.takes
        self.rows += 1
        return self.rows

    def ask(self, seconds: float, **how: Any) -> Any:
        return recount("rows", self.count, now=START + timedelta(seconds=seconds), **how)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(monkeypatch)


def test_a_cheap_count_is_made_each_time(fleet: Fleet) -> None:
    fleet.takes = CHEAP_SECONDS
    assert [fleet.ask(0), fleet.ask(0), fleet.ask(0)] == [1, 2, 3]


def test_a_dear_count_is_told_again_for_fifty_times_its_time(fleet: Fleet) -> None:
    fleet.takes = 1.0
    assert [fleet.ask(0), fleet.ask(0)] == [1, 2]
    assert fleet.ask(WORTH - 1, in_background=True) == 2
    assert fleet.ask(2 * WORTH - 1) == 2
    assert fleet.ask(WORTH, in_background=True) == 3
    assert fleet.ask(3 * WORTH - 1) == 3
    assert fleet.ask(3 * WORTH) == 4


@pytest.mark.parametrize("before", [0, 1, 3])
def test_one_busy_moment_makes_no_count_dear(fleet: Fleet, before: int) -> None:
    for number in range(before):
        fleet.ask(number)
    fleet.takes = 5.0
    assert fleet.ask(10) == before + 1
    fleet.takes = 0.0
    assert [fleet.ask(10), fleet.ask(11)] == [before + 2, before + 3]


def test_a_clock_that_went_back_has_it_counted_anew(fleet: Fleet) -> None:
    fleet.takes = 1.0
    fleet.ask(100)
    assert fleet.ask(100) == 2
    assert fleet.ask(50) == 3


def test_what_cannot_be_counted_is_the_callers_error_and_spoils_nothing(fleet: Fleet) -> None:
    def fail() -> Any:
        raise RuntimeError("away")

    ask: Callable[[], Any] = fail
    with pytest.raises(RuntimeError):
        recount("rows", ask, now=START)
    assert fleet.ask(0) == 1
