"""The real proxy with its real configuration in front of the web server."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import urllib3

from demo.inputs import DATA
from servers.nginx import HOW, NginxServer, find_nginx
from servers.patience import QUIET_SECONDS, wait_for
from tests.live import LiveServer, running_server

if find_nginx() is None and not os.environ.get("CI"):
    print(f"no nginx, so the proxy is not tried: {HOW}", file=sys.stderr)
    pytest.skip(f"no nginx: {HOW}", allow_module_level=True)

#: Connections that one address may have open; the configuration says so.
MOST_OF_ONE_ADDRESS = 256
HALF = (
    b"POST /api/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n{"
)
LARGE_BYTES = 64 * 1024**2


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    changes = {"AVIARY_TRUSTED_PROXIES": "1"}
    with running_server(tmp_path_factory.mktemp("nginx"), "nginx", changes) as server:
        yield server


@pytest.fixture(scope="module")
def front(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxServer]:
    server = NginxServer(tmp_path_factory.mktemp("front"), live.stack.port)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def http() -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, timeout=QUIET_SECONDS, maxsize=4)


def connect(front: NginxServer, start: bytes, source: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", front.port), source_address=(source, 0))
    connection.sendall(start)
    return connection


def read_status(connection: socket.socket) -> int:
    connection.settimeout(QUIET_SECONDS)
    return int(connection.recv(65536).split(b" ", 2)[1])


def ask(front: NginxServer, http: urllib3.PoolManager) -> None:
    """What a device without a token is told: the web server has looked at it."""
    answer = http.request("GET", f"{front.url}/api/models/latest?model=shapes")
    assert answer.status == 401, answer.data


def test_nginx_itself_takes_the_configuration(front: NginxServer) -> None:
    done: subprocess.CompletedProcess[str] = front.check()
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_bodies_that_never_come_stop_no_poll(front, http):
    # From several addresses, for one of them alone may not have so many.
    waiting = [connect(front, HALF, f"127.0.0.{2 + n % 6}") for n in range(900)]
    try:
        for _ in range(10):
            ask(front, http)
        assert not select.select(waiting, [], [], 0)[0], "they were given up before"
    finally:
        for connection in waiting:
            connection.close()


def test_one_address_has_a_bounded_number_of_connections(front, http):
    waiting = [connect(front, HALF, "127.0.0.9") for _ in range(MOST_OF_ONE_ADDRESS)]
    try:
        # A connection counts once its head is read.
        surplus: list[socket.socket] = []
        while not (ready := select.select(surplus, [], [], 0.1)[0]):
            surplus.append(connect(front, HALF, "127.0.0.9"))
            assert len(surplus) < 100
        assert read_status(ready[0]) == 503
        ask(front, http)
    finally:
        for connection in [*waiting, *surplus]:
            connection.close()


@pytest.mark.parametrize(
    ("path", "length"),
    [("/api/ingest", 1024**2 + 1), ("/api/devices/samples", 17 * 1024**2 + 1), ("/x", 2 * 10**9)],
)
def test_a_body_that_is_too_long_is_refused_unread(front, path, length):
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    connection = connect(front, head.encode())
    assert read_status(connection) == 413
    connection.close()


def test_a_body_that_is_too_slow_never_reaches_the_web_server(front, http):
    connection = connect(front, HALF)
    connection.settimeout(QUIET_SECONDS)
    # It is given up by the proxy's own time, whatever drips meanwhile is not waited for.
    answer = connection.recv(65536)
    assert answer == b"" or b" 408 " in answer
    ask(front, http)


def test_slow_readers_stop_no_poll(front, http):
    """Each asks for a page of over a mebibyte and reads nothing of it."""
    path = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    readers = []
    try:
        for number in range(120):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.bind((f"127.0.0.{2 + number % 6}", 0))
            reader.connect(("127.0.0.1", front.port))
            reader.sendall(request)
            readers.append(reader)
        wait_for(
            lambda: len(select.select(readers, [], [], 0)[0]) == len(readers),
            "the first bytes for every reader",
            progress=lambda: len(select.select(readers, [], [], 0)[0]),
        )
        for _ in range(10):
            ask(front, http)
    finally:
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader.close()


def test_a_large_model_goes_through_while_others_are_answered(live, front, http):
    live.api.post("models/", {"slug": "large", "labels": [str(n) for n in range(10)]})
    model = (DATA / "digits-cnn-1.0.0.onnx").read_bytes()
    # A field of the metadata that no runtime reads: the file is a model still, and large.
    doc = b"x" * LARGE_BYTES
    padded = model + b"\x32" + _varint(len(doc)) + doc
    answers: list[urllib3.BaseHTTPResponse] = []

    def upload() -> None:
        answers.append(
            http.request(
                "POST", f"{front.url}/api/v1/models/large/versions/",
                headers={"Authorization": f"Token {live.stack.token}"},
                fields={"version": "1.0.0", "file": ("m.onnx", padded)},
            )
        )  # fmt: skip

    live.stack.token  # noqa: B018 (made before the upload begins)
    thread = threading.Thread(target=upload)
    thread.start()
    while thread.is_alive():
        ask(front, http)
    thread.join()
    assert answers[0].status in (201, 202), answers[0].data[:300]
    path = "models/large/versions/1.0.0/"
    row = wait_for(
        lambda: (row := live.api.get(path))["state"] in ("ready", "rejected") and row,
        "its validation", progress=lambda: live.api.get(path)["state"], interval_seconds=0.5,
    )  # fmt: skip
    assert row["state"] == "ready", row["rejection_reason"]
    (entry,) = [f for f in row["variants"][0]["files"] if f["role"] == "model"]
    assert entry["size_bytes"] == len(padded)


def _varint(number: int) -> bytes:
    """A number as protocol buffers have it."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
