"""What a device counts itself: when, exactly once, and what of it goes up as records too."""

import json
import random
import sqlite3
from pathlib import Path

import pytest

from edge_agent.config import SpoolConfig
from edge_agent.control.answers import NotTheServerError
from edge_agent.control.transport import Answer
from edge_agent.observation import summaries
from edge_agent.observation.spool import IMPORTANT, ORDINARY, UNSURE, Spool
from edge_agent.observation.spool_writer import SpoolWriter
from edge_agent.observation.tally import MOST_OF_A_KIND, MOST_ORDINARY, Scale, Tally
from edge_agent.observation.upload import Uploader

DIGEST = "d" * 64
ON = {"summary_after_s": 60, "window_s": 3600, "takes_counted": True}


def open_all(path: Path) -> tuple[Spool, Tally, SpoolWriter]:
    spool = Spool(path, SpoolConfig())
    tally = Tally(spool, generator=random.Random(1))
    tally.describe(DIGEST, Scale(10))
    return spool, tally, SpoolWriter(spool, SpoolConfig(), tally)


def record(spool: Spool, seconds: float = 0.0, **over: object) -> dict[str, object]:
    now = spool.clock.wall()
    row = {"timestamp": now, "model": "digits", "model_version": DIGEST, "latency_ms": 2.0}
    return {**row, "class_id": 3, "confidence": 0.9, **over}


def put(writer: SpoolWriter, number: int, priority: int = ORDINARY, **over: object) -> None:
    for _ in range(number):
        writer.put(record(writer.spool, **over), priority)
    writer.flush()


class Server:
    """Takes summaries as the server does: the newest revision of a window."""

    def __init__(self) -> None:
        self.windows: dict[tuple[object, ...], tuple[int, int]] = {}
        self.failures = 0
        self.is_answer_lost = False

    def post_summaries(self, source: str, told: list[dict[str, object]]) -> Answer:
        if self.failures:
            self.failures -= 1
            raise NotTheServerError("away")
        accepted = 0
        for one in told:
            key = (source, one["model"], one["model_version"], one["start"])
            revision, n = int(str(one["revision"])), one["counts"]["n"]  # type: ignore[index]
            if revision > self.windows.get(key, (0, 0))[0]:
                self.windows[key] = (revision, n)
                accepted += 1
        if self.is_answer_lost:
            self.is_answer_lost = False
            raise NotTheServerError("the answer is lost")
        body = {"accepted": accepted, "duplicates": len(told) - accepted, "rejected": []}
        return Answer(200, {}, body)

    def counted(self) -> int:
        return sum(n for _, n in self.windows.values())


def send(spool: Spool, server: Server) -> int:
    uploader = Uploader(server, spool, SpoolConfig())  # type: ignore[arg-type]
    return uploader.upload_summaries(now_s=spool.clock.wall())


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"summary_after_s": 0, "window_s": 3600, "takes_counted": True},
     {"summary_after_s": 60, "window_s": 3600}, {**ON, "window_s": "3600"},
     {**ON, "summary_after_s": -1}, {**ON, "summary_after_s": True}],
)  # fmt: skip
def test_a_server_that_does_not_ask_for_counts_gets_records(tmp_path: Path, answer: object) -> None:
    spool, tally, writer = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    tally.follow(answer)
    assert not tally.is_on
    put(writer, 5)
    assert len(spool.export()) == 5 and not any("is_counted" in row for row in spool.export())
    assert spool.summaries.find_pending(10) == []


def test_what_the_server_asked_for_holds_over_a_restart(tmp_path: Path) -> None:
    spool, tally, _ = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    spool.close()
    spool, tally, writer = open_all(tmp_path / "spool.db")
    assert tally.is_on and (tally.after_s, tally.window_s) == (60, 3600)
    put(writer, 3)
    (pending,) = spool.summaries.find_pending(10)
    assert pending.counts["n"] == 3 and spool.export() == []


def test_a_record_of_an_unknown_release_goes_up_itself(tmp_path: Path) -> None:
    spool, tally, writer = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    put(writer, 2, model_version="e" * 64)
    assert [row.get("is_counted") for row in spool.export()] == [None, None]


def test_lost_answers_repetitions_and_revisions_are_counted_once(tmp_path: Path) -> None:
    spool, tally, writer = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    server, made = Server(), 0
    for turn in range(12):
        put(writer, turn + 1)
        made += turn + 1
        server.failures, server.is_answer_lost = int(turn % 4 == 1), turn % 4 == 2
        try:
            send(spool, server)
        except NotTheServerError:
            assert spool.summaries.count_waiting() > 0
    while spool.summaries.find_pending(1):
        send(spool, server)
    assert server.counted() == made
    assert send(spool, server) == 0


def test_a_window_that_is_forgotten_is_never_begun_again(tmp_path: Path) -> None:
    """A clock that goes back by days would else make few new counts stand for many old ones."""
    spool, tally, _ = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    server = Server()
    old = spool.clock.wall() - 3 * 86_400
    key = summaries.WindowKey("digits", DIGEST, int(old // 3600) * 3600, 3600, "", "{}")
    for _ in range(2):
        spool.add_records([], {key: {"n": 40, "errors": 40}})
        send(spool, server)
    assert server.counted() == 80 and spool.summaries.count_waiting() == 0
    assert len(server.windows) == 2


def test_what_can_never_be_sent_is_dropped_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "MOST_WINDOWS", 3)
    spool, _, _ = open_all(tmp_path / "spool.db")
    for hour in range(5):
        key = summaries.WindowKey("digits", DIGEST, hour * 3600, 3600, "", "{}")
        spool.add_records([], {key: {"n": 10}})
    assert len(spool.summaries.find_pending(10)) <= 3 and spool.summaries.count_waiting() == 30
    with sqlite3.connect(tmp_path / "spool.db") as db:
        (dropped,) = db.execute(
            "SELECT value FROM counter WHERE name = 'dropped_counts'"
        ).fetchone()
    assert dropped == 20


def test_failures_and_unsure_answers_go_up_too_and_a_few_others_at_the_end(tmp_path: Path) -> None:
    spool, tally, writer = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    put(writer, 300)
    put(writer, MOST_OF_A_KIND + 50, UNSURE, confidence=0.2)
    put(writer, 7, IMPORTANT, error="failed")
    rows = spool.export()
    assert len(rows) == MOST_OF_A_KIND + 7 and all(row["is_counted"] for row in rows)
    tally.end_interval()
    assert len(spool.export()) == MOST_OF_A_KIND + 7 + MOST_ORDINARY
    (pending,) = spool.summaries.find_pending(10)
    assert pending.counts["n"] == 300 + MOST_OF_A_KIND + 50 + 7 and pending.counts["errors"] == 7
    tally.end_interval()
    assert len(spool.export()) == MOST_OF_A_KIND + 7 + MOST_ORDINARY


def test_counts_and_samples_of_a_failed_commit_are_neither_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, tally, writer = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    put(writer, 1)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(spool.summaries, "_insert", fail)
        patch.setattr(spool.file, "count", fail)
        patch.setattr(type(spool.summaries), "add", fail)
        put(writer, 5, IMPORTANT, error="failed")
        assert spool.export() == []
    writer.flush()
    (pending,) = spool.summaries.find_pending(10)
    assert pending.counts["n"] == 6 and len(spool.export()) == 5


def test_the_answers_of_other_baselines_are_windows_of_their_own(tmp_path: Path) -> None:
    spool, tally, writer = open_all(tmp_path / "spool.db")
    tally.follow(ON)
    put(writer, 2)
    tally.describe(DIGEST, Scale(10, "b" * 64, (("input_mean", [0.5]),)))
    put(writer, 3, features=[0.2])
    server = Server()
    while send(spool, server):
        pass
    assert server.counted() == 5 and len(server.windows) == 2
    with sqlite3.connect(tmp_path / "spool.db") as db:
        rows = db.execute("SELECT widths, counts FROM summary ORDER BY id").fetchall()
    assert json.loads(rows[1][0]) == {"input_mean": 2}
    assert json.loads(rows[1][1])["features"] == {"input_mean": {"0": 3}}
