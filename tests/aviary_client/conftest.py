"""One live server for the tests of the command line, and a record of what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from aviary_client.transport import Transport
from tests.live import LiveServer, running_server


@dataclass(frozen=True)
class Call:
    """One call of the management API, as the schema would have to know it."""

    method: str
    path: str
    query: frozenset[str]
    body: frozenset[str]


@dataclass
class Recorder:
    """Every call that the client made."""

    calls: set[Call] = field(default_factory=set)

    def note(self, method: str, url: str, options: dict[str, Any]) -> None:
        parts = urlsplit(url)
        if not parts.path.startswith("/api/v1/"):
            return
        body = json.loads(options["body"]) if _is_json(options) else options.get("fields") or {}
        self.calls.add(Call(method, parts.path, frozenset(parse_qs(parts.query)), frozenset(body)))


def _is_json(options: dict[str, Any]) -> bool:
    headers = options.get("headers") or {}
    return "body" in options and headers.get("Content-Type") == "application/json"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("client"), "client") as server:
        yield server


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """What all calls of the module's tests were."""
    found = Recorder()
    send = Transport._send

    def noting(self: Transport, method: str, url: str, **options: Any) -> Any:
        found.note(method, url, options)
        return send(self, method, url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "_send", noting)
        yield found


@pytest.fixture
def home(live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and no credentials but the server's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVIARY_CREDENTIALS", str(tmp_path / "credentials.json"))
    monkeypatch.setenv("AVIARY_SERVER", live.stack.url)
    monkeypatch.setenv("AVIARY_TOKEN", live.stack.token)
    return tmp_path
