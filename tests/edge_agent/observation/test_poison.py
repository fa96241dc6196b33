"""A record that the server stumbles over is found and set aside; an outage sets nothing aside."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.agent import Agent
from edge_agent.config import SpoolConfig
from edge_agent.control.transport import Answer
from edge_agent.exceptions import AnswerError, TransferError
from edge_agent.observation.spool import Row, Spool
from edge_agent.observation.upload import Uploader
from tests.edge_agent.publisher import Server

CONFIG = SpoolConfig(batch_records=16, suspect_failures=3, suspect_span_s=30.0)
ROUND_S = 10.0


class Receiver:
    """The server's side of the intake, as the protocol states it; `is_down` and poison fail."""

    def __init__(self, poison: set[int], status: int = 500) -> None:
        self.poison = poison
        self.status = status
        self.is_down = False
        self.loses_answers: Iterator[bool] = iter(())
        self.stored: dict[str, list[int]] = {}
        self.requests = 0

    def post_records(
        self, batch_id: str, records: list[dict[str, Any]], replaces: Any = ()
    ) -> Answer:
        self.requests += 1
        if self.is_down:
            raise TransferError("no route to host")
        numbers = [record["n"] for record in records]
        if self.poison.intersection(numbers):
            raise AnswerError(self.status, "", "stumbled")
        answer = self._store(batch_id, numbers, replaces)
        if next(self.loses_answers, False):
            raise TransferError("the answer was lost")
        return Answer(200, {}, {**answer, "rejected": []})

    def _store(self, batch_id: str, numbers: list[int], replaces: Any) -> dict[str, int]:
        if batch_id in self.stored:
            return {"accepted": len(self.stored[batch_id]), "duplicates": 0}
        if any(self.stored.get(other) for other in replaces):
            return {"accepted": 0, "duplicates": len(numbers)}
        for other in replaces:
            self.stored.setdefault(other, [])
        self.stored[batch_id] = numbers
        return {"accepted": len(numbers), "duplicates": 0}

    @property
    def counted(self) -> list[int]:
        return sorted(number for numbers in self.stored.values() for number in numbers)


class Device:
    """A spool and its uploader; a round takes `ROUND_S`, a restart forgets all but the disk."""

    def __init__(self, path: Path, receiver: Receiver, config: SpoolConfig = CONFIG) -> None:
        self.path, self.receiver, self.config = path, receiver, config
        self.now_s = 0.0
        self.made = 0
        self.restart()

    def restart(self) -> None:
        self.spool = Spool(self.path, self.config)
        # Other tests cut the power; here only the decisions matter, and not the disk's waits.
        self.spool._db.execute("PRAGMA synchronous = OFF")
        client: Any = self.receiver
        self.uploader = Uploader(client, self.spool, self.config, monotonic=lambda: self.now_s)

    def make(self, number: int) -> None:
        rows = [Row(n % 3, json.dumps({"n": self.made + n})) for n in range(number)]
        self.spool.add_records(rows)
        self.made += number

    def rounds(self, number: int, *, new: int = 0) -> None:
        for _ in range(number):
            self.make(new)
            self.now_s += ROUND_S
            try:
                self.uploader.upload_records(max_batches=4)
            except TransferError:
                continue

    @property
    def dead_letters(self) -> list[int]:
        return sorted(row["record"]["n"] for row in self.spool.dead_letters.rows())


@pytest.fixture
def device(tmp_path: Path) -> Callable[..., Device]:
    return lambda receiver, **over: Device(tmp_path / "spool.db", receiver, **over)


@pytest.mark.parametrize("status", [500, 502, 400, 415, 422, 404])
@pytest.mark.parametrize("poison", [{5}, {0}, {15}, {3, 4}, {0, 40}, set(range(10, 14))], ids=str)
def test_poison_alone_is_set_aside_and_the_rest_goes_on(
    device: Callable[..., Device], poison: set[int], status: int
) -> None:
    receiver = Receiver(poison, status)
    one = device(receiver)
    one.make(48)
    one.rounds(80, new=1)
    one.rounds(2)
    assert one.dead_letters == sorted(poison)
    assert receiver.counted == sorted(set(range(one.made)) - poison)
    stat = one.spool.stat()
    assert (stat["records"], stat["aside"], stat["dropped"]) == (0, len(poison), 0)
    assert stat["uploaded"] == one.made - len(poison)
    (reason, *_) = {row["reason"] for row in one.spool.dead_letters.rows()}
    assert str(status) in reason


def test_what_is_behind_poison_waits_for_a_minute_and_no_longer(
    device: Callable[..., Device],
) -> None:
    receiver = Receiver({2})  # of the highest priority, so it goes first
    one = device(receiver, config=SpoolConfig(batch_records=500))
    one.make(2000)
    one.rounds(7)
    assert receiver.counted == [], "so far it may be an outage"
    one.rounds(2)
    assert len(receiver.counted) >= 1000
    one.rounds(25)
    assert receiver.counted == [n for n in range(2000) if n != 2]


def test_poison_that_nothing_follows_is_isolated_by_its_neighbours(
    device: Callable[..., Device],
) -> None:
    receiver = Receiver({7})
    one = device(receiver)
    one.make(16)
    one.rounds(60)
    assert receiver.counted == [n for n in range(16) if n != 7]
    assert one.spool.stat()["records"] == 1, "nothing says yet that the server is well with others"
    one.rounds(10, new=1)
    assert one.dead_letters == [7]


@pytest.mark.parametrize("hours", [1, 24])
def test_an_outage_sets_nothing_aside_and_keeps_few_batches_under_way(
    device: Callable[..., Device], hours: int
) -> None:
    receiver = Receiver(set())
    one = device(receiver)
    one.make(100)
    receiver.is_down = True
    one.rounds(int(hours * 3600 / ROUND_S / 24), new=1)
    assert one.dead_letters == []
    under_way = one.spool._db.execute("SELECT COUNT(DISTINCT batch_id) FROM record").fetchone()[0]
    assert under_way <= 10
    receiver.is_down = False
    one.rounds(40)
    assert receiver.counted == list(range(one.made))


def test_a_server_that_takes_nothing_at_all_sets_nothing_aside(
    device: Callable[..., Device],
) -> None:
    for status in (500, 400, 403, 404):
        receiver = Receiver(set(range(100_000)), status)
        one = device(receiver)
        one.make(50)
        one.rounds(100)
        assert one.dead_letters == []
        receiver.poison = set()
        one.rounds(40)
        assert receiver.counted == list(range(one.made))
        one.path.unlink()
        for suffix in ("-wal", "-shm"):
            Path(f"{one.path}{suffix}").unlink(missing_ok=True)


def test_a_whole_stored_before_its_answer_failed_is_not_counted_again_by_its_parts(
    device: Callable[..., Device],
) -> None:
    receiver = Receiver(set())
    one = device(receiver)
    one.make(16)
    batch = one.spool.next_batch(16)
    assert batch is not None
    receiver.post_records(batch.batch_id, batch.records)
    receiver.poison = {3}  # and from now on it stumbles over what it has
    one.rounds(60, new=1)
    assert receiver.counted == list(range(one.made))
    assert one.dead_letters == [3], "it was counted, and cannot be acknowledged"
    receiver.poison = set()
    assert one.spool.dead_letters.requeue() == 1
    one.rounds(5)
    assert receiver.counted == list(range(one.made)), "put back, it is known to be counted"
    assert one.spool.stat()["records"] == 0


def test_records_put_back_keep_order_time_and_priority_and_go_last(
    device: Callable[..., Device],
) -> None:
    receiver = Receiver({1, 2})
    one = device(receiver)
    one.make(16)
    one.rounds(60, new=1)
    before = one.spool.dead_letters.rows()
    assert [row["record"]["seq"] for row in before] == sorted(
        row["record"]["seq"] for row in before
    )
    assert all(row["record"]["boot_id"] and row["at"] for row in before)
    receiver.poison = set()
    assert one.spool.dead_letters.requeue([before[0]["id"]]) == 1
    one.make(16)
    first = one.spool.next_batch(100)
    assert first is not None and len(first.records) == 16, "what waits goes first"
    one.rounds(5)
    assert before[0]["record"]["n"] in receiver.counted
    assert [row["id"] for row in one.spool.dead_letters.rows()] == [before[1]["id"]]
    assert one.spool.dead_letters.discard() == 1
    stat = one.spool.stat()
    assert (stat["aside"], stat["aside_dropped"], stat["dropped"]) == (0, 1, 1)


@pytest.mark.parametrize(("over", "kept"), [({"dead_letters_max_rows": 5}, 5), ({}, 12)])
def test_what_is_set_aside_has_a_cap_and_what_falls_out_is_counted(
    tmp_path: Path, over: dict[str, Any], kept: int
) -> None:
    config = SpoolConfig(max_bytes=1 << 20, **over)
    spool = Spool(tmp_path / "spool.db", config)
    for n in range(40):
        body = json.dumps({"n": n, "pad": "x" * 4000})
        spool.add_records([Row(0, body)])
        batch = spool.next_batch(10)
        assert batch is not None
        spool.dead_letter(batch.batch_id, ["no"])
    numbers = [row["record"]["n"] for row in spool.dead_letters.rows()]
    assert len(numbers) <= kept + 2
    assert numbers == list(range(40 - len(numbers), 40)), "the newest stay"
    stat = spool.stat()
    assert stat["aside"] + stat["aside_dropped"] == stat["refused"] == 40


# --- whatever happens -------------------------------------------------------------------------

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.integers(1, 30)),
        st.tuples(st.just("rounds"), st.integers(1, 12)),
        st.tuples(st.just("down"), st.booleans()),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("lose"), st.lists(st.booleans(), max_size=6)),
        st.tuples(st.just("requeue"), st.just(0)),
    ),
    max_size=25,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    acts=ACTS, poison=st.sets(st.integers(0, 200), max_size=6), status=st.sampled_from([500, 400])
)
def test_each_record_is_counted_once_or_set_aside_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, acts: list[Any], poison: set[int], status: int
) -> None:
    receiver = Receiver(poison, status)
    one = Device(tmp_path_factory.mktemp("poison") / "spool.db", receiver)
    for act, value in acts:
        match act:
            case "make":
                one.make(value)
            case "rounds":
                one.rounds(value)
            case "down":
                receiver.is_down = value
            case "restart":
                one.restart()  # as after SIGKILL: the other is left as it is
            case "lose":
                receiver.loses_answers = iter(value)
            case "requeue":
                one.spool.dead_letters.requeue()
        counted = receiver.counted
        assert len(counted) == len(set(counted)), "no record twice"
        assert set(one.dead_letters) <= poison, "and nobody innocent is set aside"
    receiver.is_down = False
    for turn in range(600):
        # Now and then something new: it shows that the server is well with others.
        one.rounds(1, new=turn % 5 == 0)
        if turn % 5 and one.spool.stat()["records"] == 0:
            break
    expected = set(range(one.made)) - poison
    assert set(receiver.counted) >= expected
    assert set(one.dead_letters) | set(receiver.counted) == set(range(one.made))
    stat = one.spool.stat()
    assert stat["records"] == 0 and stat["dropped"] == 0
    assert stat["uploaded"] + stat["aside"] == one.made


# --- over HTTP ----------------------------------------------------------------------------------


def test_a_batch_whose_every_record_was_refused_with_a_reason_is_set_aside_at_once(
    agent: Agent, server: Server
) -> None:
    agent.spool.add_records([Row(0, json.dumps({"n": n})) for n in range(4)])
    rejected = [{"index": n, "reason": f"odd {n}"} for n in range(4)]

    def hook(request: Any) -> bool:
        body = {"code": "unusable_batch", "message": "", "details": {"rejected": rejected}}
        server.send_json(request, 422, body)
        return True

    server.hooks.append(("/api/ingest", hook))
    assert agent.uploader.upload_records() == 0
    assert [row["reason"][-7:-2] for row in agent.spool.dead_letters.rows()] == [
        f"odd {n}"[-5:] for n in range(4)
    ]


def test_events_of_one_assignment_that_fail_do_not_hold_up_the_others(
    agent: Agent, server: Server
) -> None:
    for assignment in ("bad.1", "good.1"):
        agent.spool.events.add_event(assignment, "downloading", "", "")

    def hook(request: Any) -> bool:
        if "bad.1" not in request.path:
            return False
        server.send_json(request, 500, {"code": "", "message": "", "details": {}})
        return True

    server.hooks.append(("/events", hook))
    with pytest.raises(AnswerError):
        agent.uploader.upload_events()
    assert list(agent.spool.events.pending()) == ["bad.1"]
