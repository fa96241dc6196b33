"""A hostile network, played by a real server: the device ends with the right bytes or with none."""

import dataclasses
import gzip
import hashlib
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_agent.agent import Agent
from edge_agent.config import Config
from edge_agent.control.backoff import backoff_delay_s
from edge_agent.exceptions import AnswerError, NotTheServerError, TransferError
from edge_agent.observation.spool import Row
from servers.patience import QUIET_SECONDS, wait_for
from tests.edge_agent.publisher import MODEL, Server, make_model

MODEL_BYTES = make_model()
DIGEST = hashlib.sha256(MODEL_BYTES).hexdigest()
BLOB = f"/blobs/{DIGEST}"
Hook = Callable[[Any], bool]


def is_installed(agent: Agent) -> bool:
    return agent.installer.state.model(MODEL).current is not None


def downloads(server: Server) -> list[dict[str, str]]:
    return [headers for _, path, headers in server.requests if path == BLOB]


def times(number: int, hook: Hook) -> Hook:
    """`hook` for the first `number` requests, then the honest answer."""
    left = [number]

    def limited(request: Any) -> bool:
        left[0] -= 1
        return left[0] >= 0 and hook(request)

    return limited


def answer(status: int, data: bytes, **headers: str) -> Hook:
    def hook(request: Any) -> bool:
        request.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        base = {"Content-Length": str(len(data)), "Connection": "close"}
        for name, value in (base | named).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)
        request.close_connection = True
        return True

    return hook


def truncate(request: Any) -> bool:
    """Announces the whole file, sends a third of what was asked for and hangs up."""
    start = int(request.headers.get("Range", "bytes=0-")[6:-1])
    rest = MODEL_BYTES[start:]
    request.send_response(206 if start else 200)
    request.send_header("ETag", '"the-store"')
    if start:
        last = len(MODEL_BYTES) - 1
        request.send_header("Content-Range", f"bytes {start}-{last}/{len(MODEL_BYTES)}")
    request.send_header("Content-Length", str(len(rest)))
    request.end_headers()
    request.wfile.write(rest[: len(rest) // 3])
    request.close_connection = True
    return True


def send_forever(request: Any) -> bool:
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(100_000):
            request.wfile.write(b"x" * 4096)
    except OSError:
        pass
    request.close_connection = True
    return True


CORRUPT = bytes([MODEL_BYTES[0] ^ 1]) + MODEL_BYTES[1:]
PORTAL = b"<html>Please log in to the guest network</html>"

PASSING: dict[str, Hook] = {
    "hangs up twice": times(2, truncate),
    "answers 500 twice": times(2, answer(500, b"")),
    "answers 503 once": times(1, answer(503, b"", Retry_After="1")),
    "a captive portal once": times(1, answer(200, PORTAL, Content_Type="text/html")),
    "corrupt bytes once": times(1, answer(200, CORRUPT)),
    "compressed without being asked, once": times(
        1, answer(200, MODEL_BYTES, Content_Encoding="gzip")
    ),
    "an expired address once": times(1, answer(403, b"")),
    "a range nobody asked for": times(
        1, answer(206, MODEL_BYTES, Content_Range=f"bytes 7-{len(MODEL_BYTES) + 6}/999")
    ),
}

LASTING: dict[str, Hook] = {
    "corrupt bytes": answer(200, CORRUPT),
    "too short": answer(200, MODEL_BYTES[:-1]),
    "too long": answer(200, MODEL_BYTES + b"x"),
    "endless": send_forever,
    "a captive portal": answer(200, PORTAL, Content_Type="text/html"),
    "500": answer(500, b""),
    "404": answer(404, b""),
    "416": answer(416, b""),
    "403": answer(403, b""),
    "a redirect loop": answer(302, b"", Location=BLOB),
    "a redirect to a file": answer(302, b"", Location="file:///etc/passwd"),
    "a redirect to nowhere": answer(302, b""),
    "a redirect to another scheme": answer(301, b"", Location="ftp://127.0.0.1/model"),
    "a redirect to a closed port": answer(307, b"", Location="http://127.0.0.1:9/model"),
    "an error page of the right length": answer(200, bytes(len(MODEL_BYTES))),
    "hangs up at once": truncate,
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_overcome_within_one_sync(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, PASSING[name]))
    assert agent.sync() == {MODEL}
    assert agent.layout.blob(DIGEST).read_bytes() == MODEL_BYTES


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_leaves_nothing_and_is_overcome_once_it_ends(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, LASTING[name]))
    assert agent.sync() == set()
    assert not is_installed(agent)
    assert not agent.layout.blob(DIGEST).exists()
    assert agent.installer.state.model(MODEL).blocked == {}
    assert len(downloads(server)) <= 2 * agent.config.install.download_attempts
    server.hooks.clear()
    assert agent.sync() == {MODEL}


def test_a_broken_download_resumes_where_it_broke_off(agent: Agent, server: Server) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, times(1, truncate)))
    agent.sync()
    second = downloads(server)[1]
    assert second["Range"] == f"bytes={len(MODEL_BYTES) // 3}-"
    assert second["If-Range"] == '"the-store"', "as it was received"


def test_a_part_of_other_bytes_is_thrown_away_and_the_file_taken_anew(
    agent: Agent, server: Server
) -> None:
    server.publish(MODEL_BYTES)
    agent.layout.part(DIGEST).write_bytes(b"z" * 40)
    assert agent.sync() == {MODEL}


def test_the_token_goes_to_no_download_address(agent: Agent, server: Server) -> None:
    server.publish(MODEL_BYTES)
    agent.sync()
    assert all("Authorization" not in headers for headers in downloads(server))


def test_lasting_corruption_is_reported_once_with_its_reason(agent: Agent, server: Server) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, answer(200, CORRUPT)))
    agent.sync()
    agent.sync()
    assert server.states() == [("downloading", ""), ("failed", "digest_mismatch")]


API_FAULTS: dict[str, tuple[Hook, type[Exception]]] = {
    "a captive portal": (
        answer(200, PORTAL, Content_Type="text/html"),
        NotTheServerError,
    ),
    "a redirect": (answer(302, b"", Location="http://elsewhere/"), NotTheServerError),
    "broken JSON": (answer(200, b"{", Content_Type="application/json"), NotTheServerError),
    "a huge answer": (
        answer(200, b" " * (2 << 20), Content_Type="application/json"),
        TransferError,
    ),
    "500 without a body": (answer(500, b""), AnswerError),
    "401": (answer(401, b"{}", Content_Type="application/json"), AnswerError),
    "a bomb of zeros": (
        answer(
            200,
            gzip.compress(bytes(50 << 20)),
            Content_Type="application/json",
            Content_Encoding="gzip",
        ),
        TransferError,
    ),
    "no gzip where gzip is announced": (
        answer(200, b"{}", Content_Type="application/json", Content_Encoding="gzip"),
        TransferError,
    ),
    "another content type": (answer(200, b"{}", Content_Type="text/plain"), NotTheServerError),
    "a huge header": (
        answer(200, b"{}", Content_Type="application/json", X_Huge="x" * 70_000),
        TransferError,
    ),
    "a hundred and one headers": (
        answer(200, b"{}", **{f"X_{number}": "x" for number in range(101)}),
        TransferError,
    ),
}


@pytest.mark.parametrize("name", API_FAULTS)
def test_a_bad_answer_to_a_poll_is_named_and_changes_nothing(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(MODEL_BYTES)
    agent.sync()
    hook, error = API_FAULTS[name]
    server.hooks.append(("/api/models/latest", hook))
    with pytest.raises(error):
        agent.sync()
    assert is_installed(agent)


def test_retry_after_reaches_the_caller(agent: Agent, server: Server) -> None:
    server.hooks.append(
        (
            "latest",
            answer(429, b'{"code": "throttled"}', Retry_After="7", Content_Type="application/json"),
        )
    )
    with pytest.raises(AnswerError) as caught:
        agent.sync()
    assert caught.value.retry_after_s == 7.0


def test_a_silent_server_costs_no_more_than_the_time_limit(
    config: Config, agent: Agent, server: Server
) -> None:
    given_up = threading.Event()
    waits: list[bool] = []

    def hang(request: Any) -> bool:
        waits.append(given_up.wait(QUIET_SECONDS))
        return True

    network = dataclasses.replace(config.network, read_timeout_s=0.5)
    hurried = Agent(dataclasses.replace(config, network=network))
    server.hooks.append(("latest", hang))
    try:
        with pytest.raises(TransferError):
            hurried.sync()
    finally:
        given_up.set()
        hurried.close()
    wait_for(lambda: waits)
    assert all(waits), "the agent waited for the server"


def test_events_wait_for_the_server_and_then_go_in_order(agent: Agent, server: Server) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append(("/events", answer(503, b"")))
    with pytest.raises(AnswerError):
        agent.sync()
    assert is_installed(agent), "a failed report never undoes a commit"
    server.hooks.clear()
    agent.sync()
    assert [event["seq"] for event in server.events] == [1, 2, 3, 4]
    agent.send_events()
    assert len(server.events) == 4


@pytest.mark.parametrize("status", [409, 410, 404])
def test_refused_events_are_not_sent_again(agent: Agent, server: Server, status: int) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append(("/events", answer(status, b"{}", Content_Type="application/json")))
    agent.sync()
    assert agent.spool.events.pending() == {}


def put_records(agent: Agent, number: int) -> None:
    agent.spool.add_records([Row(0, json.dumps({"n": n})) for n in range(number)])


def test_a_batch_whose_answer_was_lost_is_sent_again_under_its_id(
    agent: Agent, server: Server
) -> None:
    def swallow(request: Any) -> bool:
        server.hooks.clear()
        request.close_connection = True
        return True

    put_records(agent, 10)
    server.hooks.append(("/api/ingest", swallow))
    with pytest.raises(TransferError):
        agent.uploader.upload_records()
    first = agent.spool.next_batch(500)
    put_records(agent, 5)
    agent.uploader.upload_records()
    assert first is not None
    assert [len(records) for records in server.batches.values()] == [10, 5]
    assert first.batch_id in server.batches
    assert agent.spool.stat()["records"] == 0


def test_a_batch_that_is_too_large_goes_in_halves(agent: Agent, server: Server) -> None:
    put_records(agent, 100)
    server.hooks.append(("/api/ingest", times(2, answer(413, b""))))
    assert agent.uploader.upload_records() == 100
    sizes = [len(records) for records in server.batches.values() if records]
    assert sizes == [25, 25, 50], "and grows again once it passes"


def test_a_refusal_without_reasons_loses_nothing_while_nothing_is_taken(
    agent: Agent, server: Server
) -> None:
    put_records(agent, 3)
    server.hooks.append(("/api/ingest", answer(422, b"{}", Content_Type="application/json")))
    for _ in range(5):
        with pytest.raises(AnswerError):
            agent.uploader.upload_records()
    stat = agent.spool.stat()
    assert (stat["records"], stat["aside"], stat["dropped"]) == (3, 0, 0)
    server.hooks.clear()
    assert agent.uploader.upload_records() == 3


def test_backoff_doubles_is_jittered_and_honours_the_server() -> None:
    def highest(low: float, high: float) -> float:
        return high

    delays = [backoff_delay_s(n, base_s=1, max_s=60, uniform=highest) for n in (1, 2, 3, 9, 10_000)]
    assert delays == [2, 4, 8, 60, 60]
    assert backoff_delay_s(1, base_s=1, max_s=60, retry_after_s=30, uniform=min) == 30


class Trickle:
    """Sends a byte every 20 ms for as long as somebody reads."""

    def __init__(self, head: bytes, *, seconds: float = QUIET_SECONDS) -> None:
        self.head = head
        self.pieces = int(seconds / 0.02)
        self.has_run_out = False
        self.ended = threading.Event()

    def __call__(self, request: Any) -> bool:
        request.close_connection = True
        try:
            request.wfile.write(self.head)
            for _ in range(self.pieces):
                request.wfile.write(b"x")
                time.sleep(0.02)
            self.has_run_out = True
        except OSError:
            pass
        finally:
            self.ended.set()
        return True


TRICKLES = {
    "headers": ("/api/models/latest", b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "an answer": (
        "/api/models/latest",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n",
    ),
    "an answer without a length": (
        "/api/models/latest",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
    ),
    "a file": (
        BLOB,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(MODEL_BYTES),
    ),
}


@pytest.mark.parametrize("name", TRICKLES)
def test_what_only_trickles_is_given_up_long_before_its_end(
    agent: Agent, server: Server, config: Config, name: str
) -> None:
    pattern, head = TRICKLES[name]
    network = dataclasses.replace(config.network, answer_deadline_s=0.3, read_timeout_s=60.0)
    install = dataclasses.replace(config.install, download_min_bytes_per_s=1e6, download_attempts=1)
    hurried = Agent(dataclasses.replace(config, network=network, install=install))
    server.publish(MODEL_BYTES)
    trickle = Trickle(head)
    server.hooks.append((pattern, trickle))
    try:
        if pattern == BLOB:
            assert hurried.sync() == set()
            assert "slower than" in hurried.trouble[f"model {MODEL}"]
        else:
            with pytest.raises(TransferError):
                hurried.sync()
        assert trickle.ended.wait(QUIET_SECONDS)
        assert not trickle.has_run_out
        server.hooks.clear()
        assert hurried.sync() == {MODEL}
        assert hurried.trouble == {}
    finally:
        hurried.close()


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid", "http://127.0.0.1:9", "https://127.0.0.1:9", "nonsense"]
)
def test_an_address_nobody_answers_at_is_a_failed_transfer(config: Config, url: str) -> None:
    agent = Agent(dataclasses.replace(config, server_url=url))
    try:
        with pytest.raises(TransferError):
            agent.enroll()
    finally:
        agent.close()


def test_a_redirect_to_another_host_carries_no_token(agent: Agent, server: Server) -> None:
    other = Server()
    try:
        server.publish(MODEL_BYTES)
        other.blobs = dict(server.blobs)
        server.hooks.append(
            (
                "/blobs/",
                lambda request: answer(302, b"", Location=other.url + request.path)(request),
            )
        )
        server.hooks.append(
            ("/events", answer(307, b"", Location=f"{other.url}/api/deployments/x/events"))
        )
        with pytest.raises(NotTheServerError):
            agent.sync()
        assert is_installed(agent), "a download may come from elsewhere"
        assert {path for _, path, _ in other.requests} <= {
            f"/blobs/{digest}" for digest in other.blobs
        }
        assert all("Authorization" not in headers for _, _, headers in other.requests)
    finally:
        other.close()


def test_a_server_whose_clock_was_years_ahead_for_a_while_locks_nobody_out(
    agent: Agent, server: Server
) -> None:
    server.publish(MODEL_BYTES)
    agent.installer.journal.server_time = datetime(2099, 1, 1, tzinfo=UTC)
    assert agent.sync() == set()
    assert "assignment_expired" in agent.trouble[f"model {MODEL}"]
    agent.installer.journal.server_time = datetime(2000, 1, 1, tzinfo=UTC)
    assert agent.sync() == {MODEL}
    assert "2099" not in agent.installer.state.trusted_time


@pytest.mark.parametrize("year", [1970, 2099])
def test_this_device_s_own_clock_decides_nothing(
    agent: Agent, server: Server, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    monkeypatch.setattr(time, "time", lambda: (year - 1970) * 31_557_600.0)
    server.publish(MODEL_BYTES)
    assert agent.sync() == {MODEL}
