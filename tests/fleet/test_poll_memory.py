"""Remembered answers: none is given once what it rests on may have changed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.polling import memory as module
from fleet.polling.memory import PollMemory, Remembered, poll_key


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_memory(most: int = 1000) -> tuple[PollMemory, Clock]:
    clock = Clock()
    memory = PollMemory(most, clock=clock)
    memory.stay_live(5)
    return memory, clock


def answer(born: int, *, device: int = 1, model: str = "m", seconds: float = 60) -> Remembered:
    return Remembered(time.time() + seconds, born, device, model, "", "")


def key(number: int) -> bytes:
    return poll_key(f"Bearer {number}", "q", "e", "r", "v")


def test_a_repeated_poll_is_known_and_any_other_header_makes_another_poll() -> None:
    memory, _ = make_memory()
    parts = ["Bearer a", "model=m", '"e"', "f" * 64, "1.0"]
    memory.remember(poll_key(*parts), answer(memory.sequence))
    assert memory.find(poll_key(*parts)) is not None
    for index in range(5):
        others = [*parts]
        others[index] += "x"
        assert memory.find(poll_key(*others)) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(0, 3)),
            st.tuples(st.just("remember"), st.integers(0, 3)),
            st.tuples(st.just("device"), st.integers(0, 3)),
            st.tuples(st.just("plan"), st.integers(0, 1)),
            st.tuples(st.just("lost"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_no_answer_outlives_a_change_heard_after_its_decision_was_read(
    steps: list[tuple[str, int]],
) -> None:
    memory, _ = make_memory(8)
    changes = dict.fromkeys(range(4), 0)  # how often each device's answer has changed in truth
    read: dict[int, tuple[int, int]] = {}
    told: dict[int, int] = {}
    for what, number in steps:
        if what == "read":
            read[number] = (memory.sequence, changes[number])
        elif what == "remember" and number in read:
            born, told[number] = read[number]
            memory.remember(key(number), answer(born, device=number, model=f"m{number % 2}"))
        elif what == "device":
            changes[number] += 1
            memory.hear(f"device:{number}")
        elif what == "plan":
            for device in (number, number + 2):
                changes[device] += 1
            memory.hear(f"plan:m{number}")
        elif what == "lost":
            for device in changes:
                changes[device] += 1
            memory.stop()
            memory.stay_live(5)
        for device in changes:
            if memory.find(key(device)) is not None:
                assert told[device] == changes[device]


def test_nothing_is_answered_while_changes_may_be_missed() -> None:
    memory, clock = make_memory()
    memory.remember(key(1), answer(memory.sequence))
    memory.remember_plan("m", memory.sequence, ({}, 1))
    clock.now += 5.1
    assert memory.find(key(1)) is None and memory.plan("m") is None
    memory.stay_live(5)
    assert memory.find(key(1)) is not None and memory.plan("m") == ({}, 1)
    memory.hear("plan:m")
    assert memory.find(key(1)) is None and memory.plan("m") is None


def test_an_answer_ends_when_the_assignment_is_to_be_renewed_and_after_an_hour() -> None:
    memory, _ = make_memory()
    memory.remember(key(1), answer(0, seconds=-1))
    assert memory.find(key(1)) is None
    memory.remember(key(2), answer(0, seconds=10**6))
    found = memory.find(key(2))
    assert found is not None and found.until <= time.time() + module.LONGEST_SECONDS


def test_no_more_answers_and_names_of_changes_are_kept_than_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, _ = make_memory(100)
    for number in range(1000):
        memory.remember(key(number), answer(memory.sequence, device=number))
        assert memory.find(key(number)) is not None
        memory.find(key(7))  # one that is asked for stays
    kept = [number for number in range(1000) if memory.find(key(number)) is not None]
    assert len(kept) <= 100 and {7, 999} <= set(kept)
    monkeypatch.setattr(module, "MOST_CHANGED", 3)
    for number in range(10):
        memory.hear(f"device:{number}")
        assert len(memory._changed) <= 3
    assert memory.find(key(999)) is None
