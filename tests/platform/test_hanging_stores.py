"""Stores that hang: they take what they are sent and answer nothing."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest
import urllib3

from demo.inputs import DATA
from tests.hanging import HangingProxy
from tests.live import LiveServer, running_server

pytestmark = pytest.mark.skipif(
    not all(os.environ.get(name) for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL")),
    reason="needs the servers of `make test`",
)
POLL = "/api/models/latest?device_id=edge-1&model=shapes"


class Stores:
    """The proxies in front of the three stores, and the server behind which they lie."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self.database = self._proxy(stack, _database_address())
        self.valkey = self._proxy(stack, _address("REDIS_URL"))
        self.objects = self._proxy(stack, _address("S3_ENDPOINT_URL"))
        redis = urlsplit(os.environ["REDIS_URL"])._replace(path="/56")
        changes = {
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{self.database.port}/{{name}}",
            "REDIS_URL": urlunsplit(
                redis._replace(netloc=f"127.0.0.1:{self.valkey.port}", path="/56")
            ),
            "S3_ENDPOINT_URL": f"http://127.0.0.1:{self.objects.port}",
        }
        self.live: LiveServer = stack.enter_context(running_server(home, "hanging", changes))
        self.http = urllib3.PoolManager(retries=False, timeout=90, maxsize=8)

    @staticmethod
    def _proxy(stack: ExitStack, upstream: Any) -> HangingProxy:
        proxy = HangingProxy(upstream)
        stack.callback(proxy.close)
        return proxy

    def call(self, method: str, path: str, token: str = "", **extra: Any) -> Any:
        headers = {"Authorization": token} if token else {}
        headers.update(extra.pop("headers", {}))
        return self.http.request(method, self.live.stack.url + path, headers=headers, **extra)


def _address(name: str) -> tuple[str, int]:
    parts = urlsplit(os.environ[name])
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def _database_address() -> Path | tuple[str, int]:
    parts = urlsplit(os.environ["DATABASE_URL"])
    host = unquote(parts.netloc.rpartition("@")[2])
    return Path(host) / ".s.PGSQL.5432" if host.startswith("/") else _address("DATABASE_URL")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with ExitStack() as stack:
        yield Stores(stack, tmp_path_factory.mktemp("hanging"))


@pytest.fixture(scope="module")
def device(stores: Stores) -> str:
    """The token of a device that is to run the model `shapes`."""
    api, person = stores.live.api, f"Token {stores.live.stack.token}"
    api.post("models/", {"slug": "shapes", "labels": [str(n) for n in range(10)]})
    made = stores.call(
        "POST", "/api/v1/models/shapes/versions/?wait=1", person, fields=upload("1.0.0")
    )
    assert made.json()["state"] == "ready", made.data
    api.post("models/shapes/versions/1.0.0/transition/", {"to": "approved", "reason": "x"})
    api.post(
        "deployments/",
        {"name": "all", "model": "shapes", "stable_version": "1.0.0", "selector": {}},
    )
    join = api.post(
        "join-tokens/",
        {"name": "j", "is_auto_accept": True, "max_uses": 9, "expires_at": "2100-01-01T00:00:00Z"},
    )["token"]
    capabilities = {"arch": "x86_64", "providers": ["cpu"], "memory_mb": 1000}
    body = {"device_id": "edge-1", "join_token": join, "capabilities": capabilities}
    token = stores.call("POST", "/api/devices/enroll", json=body).json()["token"]
    assert stores.call("GET", POLL, f"Bearer {token}").status == 200
    return f"Bearer {token}"


def upload(version: str) -> dict[str, Any]:
    model = (DATA / "digits-cnn-1.0.0.onnx").read_bytes()
    return {"version": version, "file": ("m.onnx", model)}


def record() -> dict[str, Any]:
    return {
        "timestamp": "2027-01-01T00:00:00Z", "latency_ms": 1.0, "model_version": "1.0.0",
        "model": "shapes", "confidence": 0.5, "class_id": 1,
    }  # fmt: skip


def test_polls_and_records_are_answered_while_valkey_hangs(stores: Stores, device: str) -> None:
    stores.valkey.hang()
    try:
        before = stores.valkey.connections
        for _ in range(40):
            assert stores.call("GET", POLL, device).status == 200
            body = {"batch_id": secrets.token_hex(8), "records": [record()]}
            assert stores.call("POST", "/api/ingest", device, json=body).status == 200
        assert stores.call("GET", "/readyz").json()["checks"]["cache"] is False
        # Far fewer tries than calls: after one that failed, none is made for a while.
        assert stores.valkey.connections - before < 60
    finally:
        stores.valkey.recover()


def test_polls_are_answered_while_the_object_store_hangs(stores: Stores, device: str) -> None:
    person = f"Token {stores.live.stack.token}"
    stores.objects.hang()
    try:
        answer = stores.call(
            "POST", "/api/v1/models/shapes/versions/", person, fields=upload("1.0.1")
        )
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        for _ in range(10):
            assert stores.call("GET", POLL, device).status == 200
        assert stores.call("GET", "/readyz").json()["checks"]["objects"] is False
    finally:
        stores.objects.recover()


def test_a_database_that_hangs_is_named_and_devices_are_told_when_to_come_back(
    stores: Stores, device: str
) -> None:
    etag = {"If-None-Match": stores.call("GET", POLL, device).headers["ETag"]}
    # Each web process remembers what it has answered itself.
    for _ in range(40):
        assert stores.call("GET", POLL, device, headers=etag).status == 304
    stores.database.hang()
    try:
        for _ in range(12):
            answer = stores.call("GET", POLL, device)
            assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0
            # What a process remembers needs no database.
            assert stores.call("GET", POLL, device, headers=etag).status == 304
            assert stores.call("GET", "/healthz").status == 200
    finally:
        stores.database.recover()
    statuses = []
    while not statuses or statuses[-1] != 200:
        statuses.append(stores.call("GET", POLL, device).status)
        assert len(statuses) < 2000 and set(statuses) <= {200, 503}
