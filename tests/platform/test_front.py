"""The web server under slow callers, kills and long uploads: others are answered meanwhile."""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from django.contrib.staticfiles import finders

from config.front.application import WHOLE_ANSWER_BYTES
from servers.patience import QUIET_SECONDS, wait_for
from tests.live import LiveServer, running_server

HALF_SENT = [
    b"POST /api/devices/enroll HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n{",
    b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 900\r\n\r\nlogin=",
    b"POST /api/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{  ",
    b"PUT /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n",
    b"GET /api/models/latest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n",
    b"POST /api/devices/telemetry HTTP/1.1\r\nHost: 127.0",
]


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[LiveServer]:
    changes = {"AVIARY_BODY_SECONDS": "100", "TMPDIR": str(temporary)}
    with running_server(tmp_path_factory.mktemp("front"), "front", changes) as server:
        yield server


@pytest.fixture
def http() -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, timeout=QUIET_SECONDS, maxsize=8)


def open_half(live: LiveServer, start: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", live.stack.port))
    connection.sendall(start)
    return connection


def read_status(connection: socket.socket) -> int:
    connection.settimeout(60)
    return int(connection.recv(65536).split(b" ", 2)[1])


@pytest.mark.parametrize("start", HALF_SENT, ids=lambda start: start.split(b"HTTP")[0].decode())
def test_bodies_that_never_come_stop_nothing(live, http, start):
    waiting = [open_half(live, start) for _ in range(80)]
    try:
        for _ in range(5):
            assert http.request("GET", f"{live.stack.url}/healthz").status == 200
            body = {"device_id": "a", "join_token": "b"}
            answer = http.request("POST", f"{live.stack.url}/api/devices/enroll", json=body)
            assert answer.status == 401
            assert http.request("GET", f"{live.stack.url}/accounts/login/").status == 200
        # Answered while they were waiting still, not after they had been given up. A body where
        # none is meant is refused at once; headers have a time of their own.
        if not start.startswith(b"GET") and b"telemetry" not in start:
            assert not select.select(waiting, [], [], 0)[0]
    finally:
        for connection in waiting:
            connection.close()


def test_a_form_with_files_is_refused_unread_where_none_is_meant(live, temporary):
    part = b'--bb\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    for path, status in (
        ("/api/devices/enroll", 415),
        ("/api/ingest", 415),
        ("/api/devices/samples", 415),
        ("/admin/login/", 415),
        ("/accounts/login/", 415),
        ("/api/v1/models/", 415),
        ("/api/v1/rollouts/", 415),
        ("/nowhere", 415),
        ("/api/v1/models/shapes/versions/", 401),
        ("/admin/registry/version/add/", 401),
    ):
        for length in (15_000, 2_000_000_000):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
                "Content-Type: multipart/form-data; boundary=bb\r\n\r\n"
            )
            connection = open_half(live, head.encode() + part + b"x" * 10_000)
            found = read_status(connection)
            assert found == status, path
            connection.close()
    assert list(temporary.rglob("*")) == []


def test_a_body_longer_than_its_address_takes_is_refused_unread(live):
    for path in ("/api/devices/enroll", "/api/ingest", "/api/devices/telemetry", "/api/v1/x/"):
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
        connection = open_half(live, head.encode())
        assert read_status(connection) == 413, path
        connection.close()


def test_a_long_body_is_read_of_known_callers_alone(live):
    for token, status in (("", 401), ("Authorization: Bearer avd_nobody\r\n", 401)):
        head = f"POST /api/ingest HTTP/1.1\r\nHost: a\r\n{token}Content-Length: 900000\r\n\r\n"
        connection = open_half(live, head.encode())
        assert read_status(connection) == status
        connection.close()


def test_uploads_that_are_slow_hold_up_no_other_call(live, http):
    start = (
        "POST /api/v1/models/shapes/versions/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Token {live.stack.token}\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=bb\r\n\r\n"
    ).encode()
    live.stack.token  # noqa: B018 (made before the uploads begin)
    waiting = [open_half(live, start) for _ in range(20)]
    try:
        # More than may wait is told so, and when to come back.
        surplus = []
        while not (refused := select.select([*waiting, *surplus], [], [], 0.2)[0]):
            surplus.append(open_half(live, start))
            assert len(surplus) < 100
        refused[0].settimeout(60)
        answer = refused[0].recv(65536)
        assert b" 503 " in answer and b"retry-after" in answer.lower()
        for _ in range(5):
            assert http.request("GET", f"{live.stack.url}/healthz").status == 200
            assert live.api.get("models/") is not None
    finally:
        for connection in [*waiting, *surplus]:
            connection.close()


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def is_healthy(http, live) -> bool:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return bool(http.request("GET", f"{live.stack.url}/healthz").status == 200)
    return False


@pytest.mark.parametrize("which", ["worker", "server"])
def test_what_is_killed_of_the_web_server_comes_back(live, http, which):
    web: Any = next(process for process in live.stack._processes if process.name == "web")
    for _ in range(2):
        server, *workers = children_of(web.process.pid)
        os.kill(workers[-1] if which == "worker" else server, signal.SIGKILL)
        wait_for(lambda: is_healthy(http, live), "the web server", progress=web.process.work_ticks)
        assert web.is_running()


def test_a_body_that_is_too_slow_is_given_up(tmp_path, http):
    with running_server(tmp_path, "hanging", {"AVIARY_BODY_SECONDS": "1"}) as server:
        for start in HALF_SENT[:3]:
            connection = open_half(server, start)
            assert read_status(connection) == 408
            assert connection.recv(100) == b""
        # Bytes that drip do not put it off.
        connection = open_half(server, HALF_SENT[0])
        while not select.select([connection], [], [], 0.2)[0]:
            connection.sendall(b" ")
        assert read_status(connection) == 408


def test_an_answer_of_any_length_arrives_whole(live, http):
    """One of over a mebibyte is sent piece by piece, from the thread that makes it."""
    name = "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    found = finders.find(name)
    assert found is not None
    expected = Path(found).read_bytes()
    assert len(expected) > WHOLE_ANSWER_BYTES
    answer = http.request("GET", f"{live.stack.url}/static/{name}")
    assert answer.status == 200 and answer.data == expected
