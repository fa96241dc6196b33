"""Waiting ends what stands still, and nothing that gets on."""

import itertools

import pytest

from servers.patience import Patience, PatienceError, wait_for


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_changes_is_waited_for_beyond_the_quiet_time(clock: Clock) -> None:
    patience = Patience("it", quiet_seconds=10, cap_seconds=1000, clock=clock)
    for step in range(50):
        patience.look(step)
        clock.now += 9


def test_what_stands_still_is_given_up_with_its_last_state(clock: Clock) -> None:
    patience = Patience("the job", quiet_seconds=10, cap_seconds=1000, clock=clock)
    patience.look("half")
    clock.now = 10
    patience.look("half")
    clock.now = 11
    with pytest.raises(PatienceError, match=r"the job: no change for 11 s of 11; last seen: half"):
        patience.look("half")


def test_what_moves_for_ever_and_never_arrives_is_given_up_in_the_end(clock: Clock) -> None:
    patience = Patience("it", quiet_seconds=10, cap_seconds=100, clock=clock)
    with pytest.raises(PatienceError, match="not after 10"):
        for step in itertools.count():
            clock.now += 5
            patience.look(step)
    assert 100 < clock.now <= 105


def test_the_first_true_value_is_the_answer() -> None:
    values = iter(["", 0, None, "found"])
    assert wait_for(lambda: next(values), interval_seconds=0) == "found"
