"""Metrics that a Prometheus server measures; the server here answers its real protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from fleet.models import Gate, Rollout
from ingest.exceptions import PrometheusError
from ingest.prometheus import query_prometheus
from ingest.services.evidence import push_all_evidence
from tests.ingest.canaries import EVEN, NOW, answers, make_canary_rollout, report

pytestmark = pytest.mark.django_db


@pytest.fixture
def rollout() -> Rollout:
    return make_canary_rollout()


class Server(ThreadingHTTPServer):
    """Answers each query with what `answers` holds for it; `seen` are the queries' parameters."""

    answers: dict[str, Any]
    seen: list[dict[str, list[str]]]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parameters = parse_qs(urlsplit(self.path).query)
        self.server.seen.append(parameters)
        answer = self.server.answers[parameters["query"][0]]
        body = answer(float(parameters["time"][0])) if callable(answer) else answer
        status = 200
        if isinstance(body, int):
            status, body = body, ""
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the test's own output is enough."""


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), _Handler)
    made.answers, made.seen = {}, []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    settings.AVIARY_PROMETHEUS_URL = f"http://127.0.0.1:{made.server_port}"
    settings.AVIARY_PROMETHEUS_PRIVATE = True
    settings.AVIARY_PROMETHEUS_TIMEOUT_SECONDS = 2
    yield made
    made.shutdown()
    made.server_close()


def vector(*rows: tuple[dict[str, str], float]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1.0, str(value)]} for labels, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def ask(server: Server, answer: Any) -> Any:
    server.answers["up"] = answer
    return query_prometheus("up", timezone.now())


def test_vectors_and_scalars_are_read(server: Server) -> None:
    (found,) = ask(server, vector(({"device_id": "edge-1"}, 2.5)))
    assert (found.labels, found.value) == ({"device_id": "edge-1"}, 2.5)
    (single,) = ask(server, {"data": {"resultType": "scalar", "result": [1.0, "7"]}})
    assert single.value == 7
    assert ask(server, vector(({}, float("nan")), ({}, float("inf")))) == []


BROKEN: dict[str, Any] = {
    "an error": 500,
    "a redirect, which is not followed": 302,
    "text": "hello",
    "a list": [],
    "no result": {"data": {}},
    "a matrix": {"data": {"resultType": "matrix", "result": []}},
    "a value of nothing": {"data": {"resultType": "vector", "result": [{"value": []}]}},
    "words for a number": vector(({}, "many")),  # type: ignore[arg-type]
    "too many numbers": vector(*[({}, 1.0)] * 5001),
    "too many bytes": " " * (1024**2 + 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_is_none_is_an_error(server: Server, name: str) -> None:
    with pytest.raises(PrometheusError):
        ask(server, BROKEN[name])


def test_a_private_address_is_refused_unless_it_is_allowed(server: Server, settings: Any) -> None:
    settings.AVIARY_PROMETHEUS_PRIVATE = False
    with pytest.raises(PrometheusError, match="private address"):
        ask(server, vector())
    assert server.seen == []


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:1"])
def test_a_server_that_is_none_is_an_error(server: Server, settings: Any, url: str) -> None:
    settings.AVIARY_PROMETHEUS_URL = url
    with pytest.raises(PrometheusError):
        ask(server, vector())


def test_a_server_that_says_nothing_is_given_up(server: Server, settings: Any) -> None:
    settings.AVIARY_PROMETHEUS_TIMEOUT_SECONDS = 1
    is_over = threading.Event()
    with pytest.raises(PrometheusError):
        ask(server, lambda _: is_over.wait(5) or vector())
    is_over.set()


def own_gate(rollout: Rollout) -> None:
    Gate.objects.create(rollout=rollout, metric="own:cycle", threshold=0.5, query="cycle")


@pytest.mark.parametrize(("slower", "verdict"), [(0.0, "pass"), (2.0, "fail")])
def test_numbers_of_devices_are_compared_with_their_past_and_the_control(
    server: Server,
    rollout: Rollout,
    slower: float,
    verdict: str,
) -> None:
    own_gate(rollout)
    report(rollout, EVEN)
    began = rollout.started_at.timestamp()

    def answer(at: float) -> dict[str, Any]:
        # Devices differ a lot, and all have slowed down by 3 since.
        is_after = at > began + 60
        return vector(
            *(
                (
                    {"device_id": f"edge-{index}"},
                    10 * index
                    + 0.01 * ((index * 7) % 5) * is_after
                    + is_after * (3 + slower * (index < 5)),
                )
                for index in range(12)
            )
        )

    server.answers["cycle"] = answer
    push_all_evidence(now=NOW)
    said = answers()["own:cycle"]
    assert said.verdict == verdict and said.devices == 5
    assert [float(seen["time"][0]) > began + 60 for seen in server.seen] == [True, False]


@pytest.mark.parametrize(("value", "verdict"), [(0.4, "pass"), (0.6, "fail")])
def test_one_number_is_taken_as_exact(
    server: Server,
    rollout: Rollout,
    value: float,
    verdict: str,
) -> None:
    own_gate(rollout)
    server.answers["cycle"] = vector(({}, value))
    push_all_evidence(now=NOW)
    assert answers()["own:cycle"].verdict == verdict


def test_a_server_in_trouble_is_no_data_and_leaves_the_other_gates_alone(
    server: Server,
    rollout: Rollout,
) -> None:
    own_gate(rollout)
    report(rollout, EVEN)
    server.answers["cycle"] = 503
    push_all_evidence(now=NOW)
    found = answers()
    assert found["own:cycle"].verdict == "no_data" and "503" in found["own:cycle"].details["words"]
    assert found["error_rate"].verdict == "pass"
