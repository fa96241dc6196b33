"""A broken transfer goes on where it broke, behind caches and stores with ETags of their own."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.config import InstallConfig, NetworkConfig
from edge_agent.control.transport import Transport
from edge_agent.exceptions import AgentError
from edge_agent.files import DiskFiles, make_dirs
from edge_agent.install.download import Downloader
from edge_agent.install.part import Part
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import ManifestFile
from tests.edge_agent.publisher import Server

BODY = np.random.default_rng(0).bytes(240_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
FILE = ManifestFile("model.onnx", "model", SHA256, len(BODY))
PIECE = 60_000


class Store:
    """Serves BODY and hangs up after each PIECE, by RFC 9110; notes what was asked and answered."""

    def __init__(self, etag: str | None, *, has_ranges: bool = True, body: bytes = BODY) -> None:
        self.etag = etag
        self.has_ranges = has_ranges
        self.body = body
        self.seen: list[tuple[str, str, int]] = []
        self.pieces = 10**9
        """Connections that are cut; later ones bring everything."""
        self.is_address_used_up: Callable[[str], bool] = lambda path: False

    def __call__(self, request: Any) -> bool:
        request.close_connection = True
        asked = request.headers.get("Range", "")
        condition = request.headers.get("If-Range")
        if self.is_address_used_up(request.path):
            return bool(self._send(request, 403, b"", len(b"")))
        # 13.1.5: a weak validator never matches, nor does one of another representation.
        matches = condition is None or (condition == self.etag and not condition.startswith("W/"))
        start = int(asked[6:-1]) if asked and matches and self.has_ranges else 0
        self.seen.append((asked, condition or "", 206 if start else 200))
        rest = self.body[start:]
        sent = rest[:PIECE] if len(self.seen) <= self.pieces else rest
        return bool(self._send(request, 206 if start else 200, sent, len(rest), start))

    def _send(self, request: Any, status: int, data: bytes, size: int, start: int = 0) -> bool:
        request.send_response(status)
        if status == 206:
            last = len(self.body) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(self.body)}")
        if self.etag is not None:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(size))
        request.end_headers()
        request.wfile.write(data)
        return True


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for folder in layout.folders():
        make_dirs(DiskFiles(), folder)
    return layout


@pytest.fixture
def downloader(layout: Layout) -> Iterator[Downloader]:
    transport = Transport(NetworkConfig(), user_agent="test")
    config = InstallConfig(disk_reserve_bytes=0)
    yield Downloader(DiskFiles(), layout, transport, config, sleep=lambda failures: None)


def fetch(downloader: Downloader, server: Server, store: Store) -> list[str]:
    """Fetches FILE from `store`; returns the addresses that were asked for."""
    server.hooks[:] = [("/store", store)]
    addresses: list[str] = []

    def next_address(is_expired: bool) -> str:
        addresses.append(f"{server.url}/store?{len(addresses)}")
        return addresses[-1]

    downloader.fetch(FILE, next_address)
    assert downloader.layout.blob(SHA256).read_bytes() == BODY
    assert downloader.files.list(downloader.layout.parts) == [], "nothing is left beside it"
    return addresses


RANGES = ["bytes=60000-", "bytes=120000-", "bytes=180000-"]


@pytest.mark.parametrize(
    ("etag", "condition"),
    [
        ('"9e107d9d372bb6826bd81d3542a419d6"', '"9e107d9d372bb6826bd81d3542a419d6"'),
        ('"d41d8cd98f00b204e9800998ecf8427e-3"', '"d41d8cd98f00b204e9800998ecf8427e-3"'),
        ('W/"weak"', ""),
        (None, ""),
        ("unquoted", ""),
        (f'"{"x" * 300}"', ""),
    ],
)
def test_each_byte_comes_once_whatever_the_etag(
    downloader: Downloader, server: Server, etag: str | None, condition: str
) -> None:
    store = Store(etag)
    fetch(downloader, server, store)
    assert [asked for asked, _, _ in store.seen] == ["", *RANGES]
    assert [sent for _, sent, _ in store.seen[1:]] == [condition] * 3
    assert [status for _, _, status in store.seen] == [200, 206, 206, 206]


def test_the_validator_is_known_after_a_restart(
    downloader: Downloader, server: Server, layout: Layout
) -> None:
    part = Part(DiskFiles(), layout.part(SHA256), FILE)
    part.begin('"ours"')
    part.append(BODY[:1000])
    store = Store('"ours"')
    fetch(downloader, server, store)
    assert store.seen[0] == ("bytes=1000-", '"ours"', 206)


def test_what_the_store_has_replaced_is_fetched_anew(
    downloader: Downloader, server: Server, layout: Layout
) -> None:
    part = Part(DiskFiles(), layout.part(SHA256), FILE)
    part.begin('"old"')
    part.append(b"x" * 1000)
    store = Store('"new"')
    fetch(downloader, server, store)
    assert store.seen[0] == ("bytes=1000-", '"old"', 200), "the whole file, and not a wrong rest"


def test_a_prefix_of_other_bytes_under_no_validator_costs_one_clean_try(
    downloader: Downloader, server: Server, layout: Layout
) -> None:
    layout.part(SHA256).write_bytes(b"x" * 180_000)
    store = Store(None)
    store.pieces = 0
    fetch(downloader, server, store)
    assert [asked for asked, _, _ in store.seen] == ["bytes=180000-", ""]


def test_a_server_without_ranges_is_read_from_the_start(
    downloader: Downloader, server: Server
) -> None:
    store = Store('"x"', has_ranges=False)
    store.pieces = 1
    fetch(downloader, server, store)
    assert [status for _, _, status in store.seen] == [200, 200]


def test_addresses_that_are_good_for_one_connection_each(
    downloader: Downloader, server: Server
) -> None:
    used: set[str] = set()

    def is_used_up(path: str) -> bool:
        was_used = path in used
        used.add(path)
        return was_used

    store = Store('"x"')
    store.is_address_used_up = is_used_up
    assert len(fetch(downloader, server, store)) == 4


def test_addresses_that_bring_nothing_are_not_asked_for_without_end(
    downloader: Downloader, server: Server
) -> None:
    store = Store('"x"')
    store.is_address_used_up = lambda path: True
    with pytest.raises(AgentError, match="expired"):
        fetch(downloader, server, store)
    assert store.seen == []
