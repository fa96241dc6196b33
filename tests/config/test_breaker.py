"""A breaker: what it refuses, when it tries again, and what closes it."""

import pytest

from registry.breaker import Breaker


class Refused(Exception):
    pass


def fail(breaker: Breaker, error: type[Exception] = TimeoutError) -> None:
    with breaker.call():
        raise error


def make(**over):
    return Breaker("it", trips_on=(TimeoutError,), refuses_with=Refused, **over)


def test_it_opens_after_failures_in_a_row_and_refuses_at_once():
    breaker = make(failures=2, open_seconds=60)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            fail(breaker)
    with pytest.raises(Refused):
        fail(breaker)


def test_a_success_between_failures_keeps_it_closed():
    breaker = make(failures=2, open_seconds=60)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            fail(breaker)
        with breaker.call():
            pass
    assert not breaker.is_open


def test_other_errors_count_as_an_answer():
    breaker = make(open_seconds=60)
    for _ in range(3):
        with pytest.raises(KeyError):
            fail(breaker, KeyError)
    assert not breaker.is_open


def test_one_call_tries_again_and_its_success_lets_all_through():
    breaker = make(open_seconds=0.0)
    with pytest.raises(TimeoutError):
        fail(breaker)
    with breaker.call():
        pass
    for _ in range(3):
        with breaker.call():
            pass
    assert not breaker.is_open
