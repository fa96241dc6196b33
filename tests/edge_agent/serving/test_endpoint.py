"""The local HTTP endpoint against the real runtime, and against clients that mean harm."""

import io
import json
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from edge_agent.config import ServeConfig, parse_config
from edge_agent.exceptions import ConfigurationError
from edge_agent.serving.endpoint import Endpoint
from servers.patience import QUIET_SECONDS, Patience
from tests.edge_agent.publisher import MODEL, make_model
from tests.edge_agent.releases import Station

ROW = np.ones((1, 4), dtype=np.float32)
PATH = f"/v1/models/{MODEL}/infer"


def to_npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path)
    station.put(make_model())
    yield station
    station.close()


@pytest.fixture
def serve(station: Station) -> Iterator[Callable[..., str]]:
    running = []

    def serve(**over: Any) -> str:
        config = ServeConfig(enabled=True, port=0, **{"timeout_s": QUIET_SECONDS, **over})
        endpoint = Endpoint(config, station.serving)
        endpoint.start()
        running.append(endpoint)
        return endpoint.address

    yield serve
    for endpoint in running:
        endpoint.stop()


def post(url: str, body: bytes, kind: str = "application/x-npy", **headers: str) -> Any:
    answer = urllib3.request(
        "POST", url, body=body, headers={"Content-Type": kind, **headers}, retries=False
    )
    return answer.status, json.loads(answer.data)


def test_npy_and_json_get_the_same_answer_and_each_is_recorded(
    station: Station, serve: Callable[..., str]
) -> None:
    url = serve() + PATH
    status, first = post(url, to_npy(ROW))
    assert status == 200
    status, second = post(url, json.dumps({"inputs": ROW.tolist()}).encode(), "application/json")
    named = json.dumps({"inputs": {"input": ROW.tolist()}}).encode()
    status, third = post(url, named, "application/json")
    for row in (first, second, third):
        assert row.pop("latency_ms") > 0
    assert first == second == third
    session = station.serving.find_session(MODEL)
    expected = session.infer(ROW)
    assert first["outputs"]["logits"] == expected.outputs[0].tolist()
    assert first["label"] == expected.top_k[0][1]
    assert [row["class_id"] for row in first["top_k"]] == [i for i, _, _ in expected.top_k]
    assert first["confidence"] == expected.confidence
    assert (first["version"], first["manifest_sha256"]) == ("1.0.0", session.manifest.digest)
    records = station.records()
    assert [row["class_id"] for row in records] == [first["class_id"]] * 3
    assert records[0]["features"] == [1.0, 0.0]
    assert station.serving.traffic_of(MODEL, session.manifest.digest).inferences == 3


def test_the_scores_can_be_had_as_npy_and_the_outputs_left_out(
    station: Station, serve: Callable[..., str]
) -> None:
    url = serve() + PATH
    answer = urllib3.request(
        "POST",
        url,
        body=to_npy(ROW),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
    )
    expected = station.serving.find_session(MODEL).infer(ROW)
    assert (np.load(io.BytesIO(answer.data)) == expected.outputs[0]).all()
    assert json.loads(answer.headers["X-Answer"])["class_id"] == expected.class_id
    assert "outputs" not in post(url + "?outputs=none", to_npy(ROW))[1]


REFUSALS: dict[str, tuple[bytes, str, int, str, str]] = {
    "wrong length": (
        to_npy(np.ones((1, 3), np.float32)),
        "application/x-npy",
        400,
        "input_invalid",
        "input input: expected shape ['any', 4], got [1, 3]",
    ),
    "wrong rank": (
        to_npy(np.ones(4, np.float32)),
        "application/x-npy",
        400,
        "input_invalid",
        "expected shape ['any', 4], got [4]",
    ),
    "no row": (
        to_npy(np.ones((0, 4), np.float32)),
        "application/x-npy",
        400,
        "input_invalid",
        "got [0, 4]",
    ),
    "wrong dtype": (
        to_npy(np.ones((1, 4))),
        "application/x-npy",
        400,
        "input_invalid",
        "expected dtype float32, got float64",
    ),
    "objects": (
        b"\x93NUMPY\x01\x00F\x00"
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 4), }".ljust(69)
        + b"\n",
        "application/x-npy",
        400,
        "input_invalid",
        "objects are refused",
    ),
    "a header that promises a terabyte": (
        b"\x93NUMPY\x01\x00F\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (250000000000,)}".ljust(69)
        + b"\n",
        "application/x-npy",
        400,
        "input_invalid",
        "header promises 1000000000000 bytes, 0 came",
    ),
    "no npy": (b"hello", "application/x-npy", 400, "input_invalid", "not an npy file"),
    "no JSON": (b"{", "application/json", 400, "input_invalid", "body is not JSON"),
    "JSON too deep": (b"[" * 100_000, "application/json", 400, "input_invalid", "not JSON"),
    "ragged": (b'{"inputs": [[1], [2, 3]]}', "application/json", 400, "input_invalid", "input"),
    "words": (b'{"inputs": [["a"]]}', "application/json", 400, "input_invalid", "numbers"),
    "another name": (
        b'{"inputs": {"image": [[1]]}}',
        "application/json",
        400,
        "input_invalid",
        "expected ['input'], got ['image']",
    ),
    "another type": (b"x", "text/plain", 415, "unsupported_type", "got text/plain"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_request_is_refused_by_name_and_not_held_against_the_release(
    name: str, station: Station, serve: Callable[..., str]
) -> None:
    body, kind, status, code, message = REFUSALS[name]
    answer = post(serve() + PATH, body, kind)
    assert (answer[0], answer[1]["code"]) == (status, code)
    assert message in answer[1]["message"]
    assert station.records() == []
    digest = station.serving.find_session(MODEL).manifest.digest
    assert station.serving.traffic_of(MODEL, digest).inferences == 0


def test_a_model_that_is_not_here_is_404_and_one_that_does_not_run_is_503(
    station: Station, serve: Callable[..., str]
) -> None:
    url = serve()
    status, row = post(url + "/v1/models/other/infer", to_npy(ROW))
    assert (status, row["code"]) == (404, "unknown_model")
    health = urllib3.request("GET", url + "/v1/healthz")
    assert (health.status, health.json()) == (200, {"status": "ok", "models": 1})
    station.slots[MODEL].swap(None)
    status, row = post(url + PATH, to_npy(ROW))
    assert (status, row["code"]) == (503, "no_model")
    assert urllib3.request("GET", url + "/v1/healthz", retries=False).status == 503


def test_a_configured_model_that_has_not_come_yet_is_503(tmp_path: Path) -> None:
    station = Station(tmp_path, models=("coming",))
    endpoint = Endpoint(ServeConfig(enabled=True, port=0), station.serving)
    endpoint.start()
    try:
        status, row = post(f"{endpoint.address}/v1/models/coming/infer", to_npy(ROW))
        assert (status, row["code"]) == (503, "no_model")
    finally:
        endpoint.stop()
        station.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"DELETE /v1/models HTTP/1.1", 501),
        (b"nonsense", 400),
        (b"GET / HTTP/9", 400),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1", 414),
    ],
)
def test_what_is_no_request_gets_the_one_error_shape(
    request_line: bytes, status: int, serve: Callable[..., str]
) -> None:
    with connect(serve()) as client:
        client.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: client.recv(65536), b""))
    if data.startswith(b"HTTP/"):
        assert int(data.split()[1]) == status
        data = data.split(b"\r\n\r\n", 1)[1]
    assert json.loads(data)["code"] == "bad_request"


def test_the_models_are_described(serve: Callable[..., str]) -> None:
    url = serve()
    post(url + PATH, to_npy(ROW))
    (row,) = urllib3.request("GET", url + "/v1/models").json()["models"]
    assert row["inputs"] == [{"name": "input", "dtype": "float32", "shape": [None, 4]}]
    assert (row["outputs"], row["labels"]) == (["logits"], ["a", "b", "c"])
    assert row["latency"]["count"] == 1
    assert row["providers"]["active"] == ["cpu"]


def test_numbers_that_are_not_finite_leave_as_null(
    station: Station, serve: Callable[..., str]
) -> None:
    station.put(make_model(takes_logarithm=True), version="2.0.0")
    status, row = post(serve() + PATH, to_npy(-ROW))
    assert (status, row["error"], row["class_id"]) == (200, "non_finite", None)
    assert row["outputs"]["logits"] == [[None, None, None]]
    (record,) = station.records()
    assert record["error"] == "non_finite"


def test_a_body_past_the_limit_is_refused_unread(serve: Callable[..., str]) -> None:
    url = serve(max_body_bytes=1000)
    status, row = post(url + PATH, b"x" * 1001)
    assert (status, row["code"]) == (413, "too_large")
    answer = urllib3.request("POST", url + PATH, body=iter([b"x"]), retries=False)
    assert answer.status == 411


def test_a_token_is_asked_for_when_one_is_set(tmp_path: Path, serve: Callable[..., str]) -> None:
    (tmp_path / "token").write_text("secret\n")
    url = serve(token_file=str(tmp_path / "token")) + PATH
    assert post(url, to_npy(ROW))[0] == 401
    assert post(url, to_npy(ROW), Authorization="Bearer wrong")[0] == 401
    assert post(url, to_npy(ROW), Authorization="Bearer secret")[0] == 200


def test_a_web_page_with_a_name_of_its_own_does_not_get_through(serve: Callable[..., str]) -> None:
    status, row = post(serve() + PATH, to_npy(ROW), Host="evil.example:8780")
    assert (status, row["code"]) == (403, "wrong_host")


AGENT = {"device_id": "d", "server_url": "http://s", "home": "h"}


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        ({"enabled": True, "host": "0.0.0.0"}, "give a token_file"),
        ({"enabled": True, "host": "::"}, "give a token_file"),
        ({"enabled": True, "host": "board.local"}, "give a token_file"),
        ({"threads": 0}, "threads"),
        ({"port": 70000}, "port"),
    ],
)
def test_settings_that_open_the_device_are_refused(
    serve: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_config({"agent": AGENT, "serve": serve}, base=tmp_path)


@pytest.mark.parametrize(
    "serve",
    [
        {"enabled": True},
        {"enabled": True, "host": "::1"},
        {"enabled": True, "host": "0.0.0.0", "token_file": "token"},
        {"enabled": True, "unix_socket": "edge.sock"},
    ],
)
def test_settings_that_keep_it_to_itself_are_taken(serve: dict[str, Any], tmp_path: Path) -> None:
    assert parse_config({"agent": AGENT, "serve": serve}, base=tmp_path).serve.enabled


def test_a_unix_socket_serves_its_owner_alone(tmp_path: Path, serve: Callable[..., str]) -> None:
    path = tmp_path / "edge.sock"
    serve(unix_socket=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    body = to_npy(ROW)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(head.encode() + body)
        data = b"".join(iter(lambda: client.recv(65536), b""))
    assert data.startswith(b"HTTP/1.1 200")
    assert json.loads(data.split(b"\r\n\r\n", 1)[1])["model"] == MODEL


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=QUIET_SECONDS)


def test_clients_that_hang_or_trickle_are_cut_and_others_turned_away_meanwhile(
    serve: Callable[..., str],
) -> None:
    url = serve(threads=2, queue=1, timeout_s=1.0)
    slow = [connect(url) for _ in range(3)]
    stopping = threading.Event()

    def trickle(client: socket.socket) -> None:
        while not stopping.wait(0.05):
            try:
                client.send(b"G")
            except OSError:
                return

    threads = [threading.Thread(target=trickle, args=(client,)) for client in slow]
    for thread in threads:
        thread.start()
    refused = 0
    patience = Patience("the end of the slow clients")
    while True:
        answer = urllib3.request("GET", url + "/v1/healthz", retries=False)
        if answer.status == 200:
            break
        assert (answer.status, answer.json()["code"]) == (503, "busy")
        refused += 1
        patience.look("busy")
        time.sleep(0.1)
    assert refused > 0
    stopping.set()
    for thread in threads:
        thread.join()
    for client in slow:
        client.close()


def test_an_idle_connection_makes_room_for_one_that_waits(serve: Callable[..., str]) -> None:
    url = serve(threads=1, queue=4, timeout_s=QUIET_SECONDS)
    with connect(url) as idle:
        idle.sendall(b"GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        # Well within the limit at which an idle connection is closed anyhow.
        half = QUIET_SECONDS / 2
        answer = urllib3.request("GET", url + "/v1/healthz", timeout=half, retries=False)
        assert answer.status == 200


def test_one_connection_serves_many_requests(serve: Callable[..., str], station: Station) -> None:
    url = serve() + PATH
    with urllib3.PoolManager(maxsize=1) as pool:
        for _ in range(20):
            headers = {"Content-Type": "application/x-npy"}
            assert pool.request("POST", url, body=to_npy(ROW), headers=headers).status == 200
        assert pool.connection_from_url(url).num_connections == 1
    assert len(station.records()) == 20
