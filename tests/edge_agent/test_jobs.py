"""The list of jobs: each is due by itself, and none that fails stops another."""

import sqlite3

import pytest

from edge_agent.config import NetworkConfig
from edge_agent.exceptions import AnswerError, DiskFullError, StopRequested, TransferError
from edge_agent.jobs import Job, Schedule

NETWORK = NetworkConfig(backoff_base_s=1.0, backoff_max_s=8.0)


class Bench:
    """A schedule on a clock of its own; `errors` says what a job raises."""

    def __init__(self, **intervals: float) -> None:
        self.now = 100.0
        self.ran: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.trouble: dict[str, str] = {}
        jobs = [
            Job(name, lambda name=name: self.act(name), lambda s=seconds: s)  # type: ignore[misc]
            for name, seconds in intervals.items()
        ]
        self.schedule = Schedule(jobs, NETWORK, self.trouble, clock=lambda: self.now)

    def act(self, name: str) -> None:
        self.ran.append(name)
        if name in self.errors:
            raise self.errors[name]

    def turn(self, seconds: float) -> list[str]:
        self.now += seconds
        self.ran.clear()
        self.schedule.run_due()
        return list(self.ran)


def test_each_job_is_due_after_its_own_interval() -> None:
    bench = Bench(a=1.0, b=5.0)
    assert bench.turn(0.0) == ["a", "b"]
    assert [bench.turn(1.0) for _ in range(5)] == [["a"]] * 4 + [["a", "b"]]
    assert bench.turn(0.5) == []
    assert bench.schedule.wait_s() == pytest.approx(0.5)


ERRORS: dict[str, tuple[Exception, str]] = {
    "a server's error": (AnswerError(500, "x", "no"), "transfer_failed"),
    "no network": (TransferError("no route"), "transfer_failed"),
    "a full disk": (DiskFullError("full"), "disk_full"),
    "a failing card": (OSError(5, "Input/output error"), "disk: "),
    "a damaged database": (sqlite3.DatabaseError("malformed"), "disk: "),
    "a mistake of ours": (KeyError("x"), "internal: KeyError"),
    "nonsense from outside": (AttributeError("x"), "internal: AttributeError"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_job_that_fails_is_named_backs_off_and_stops_no_other(name: str) -> None:
    error, words = ERRORS[name]
    bench = Bench(a=0.1, b=0.1)
    bench.errors["a"] = error
    for _ in range(200):
        assert "b" in bench.turn(0.1)
    assert bench.trouble["a"].startswith(words) and "b" not in bench.trouble
    assert 3 <= bench.schedule.jobs["a"].failures < 60, "it is tried again, and not at each turn"
    bench.errors.clear()
    bench.turn(10.0)
    assert bench.trouble == {} and bench.schedule.jobs["a"].failures == 0


def test_what_the_server_asks_for_is_the_least_wait() -> None:
    bench = Bench(a=0.1)
    bench.errors["a"] = AnswerError(503, "busy", "later", retry_after_s=30.0)
    bench.turn(0.0)
    assert bench.turn(29.9) == []
    assert bench.turn(31.0) == ["a"]


def test_a_device_that_waits_for_a_person_asks_at_its_usual_interval() -> None:
    bench = Bench(a=2.0)
    bench.errors["a"] = AnswerError(403, "device_pending", "wait")
    assert [bench.turn(2.0) for _ in range(20)] == [["a"]] * 20


def test_a_job_that_is_hurried_is_due_at_once_unless_it_just_failed() -> None:
    bench = Bench(a=50.0)
    bench.turn(0.0)
    bench.schedule.hurry("a")
    assert bench.turn(0.0) == ["a"]
    bench.errors["a"] = AnswerError(503, "busy", "later", retry_after_s=30.0)
    bench.schedule.hurry("a")
    bench.turn(0.0)
    bench.schedule.hurry("a")
    assert bench.turn(1.0) == []


def test_the_end_of_the_process_is_no_failure() -> None:
    bench = Bench(a=1.0)
    bench.errors["a"] = StopRequested()
    with pytest.raises(StopRequested):
        bench.turn(0.0)
    assert bench.trouble == {}
