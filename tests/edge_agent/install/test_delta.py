"""Deltas save bytes and never decide: whatever is wrong with one, the whole file is taken."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.exceptions import DownloadError
from edge_agent.install import delta
from tests.edge_agent.publisher import MODEL, Server, make_model

zstd = pytest.importorskip("backports.zstd")


def make_patch(old: bytes, new: bytes) -> bytes:
    dictionary = zstd.ZstdDict(old, is_raw=True).as_prefix
    options = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    return bytes(zstd.compress(new, options=options, zstd_dict=dictionary))


OLD = np.random.default_rng(0).bytes(300_000)
NEW = OLD[:200_000] + b"changed" + OLD[200_100:]


def test_a_patch_makes_the_new_file_of_the_old_one() -> None:
    patch = make_patch(OLD, NEW)
    assert len(patch) < len(NEW) / 100
    assert delta.apply_patch(OLD, patch, size_bytes=len(NEW)) == NEW


@pytest.mark.parametrize("size", [len(NEW) - 1, len(NEW) + 1, 10])
def test_a_patch_that_makes_another_length_is_refused(size: int) -> None:
    with pytest.raises(DownloadError):
        delta.apply_patch(OLD, make_patch(OLD, NEW), size_bytes=size)


def test_bytes_that_are_no_patch_are_refused() -> None:
    with pytest.raises(DownloadError):
        delta.apply_patch(OLD, b"no patch", size_bytes=10)


def offer_delta(server: Server, old: bytes, patch: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(patch).hexdigest()
    server.blobs[digest] = patch
    return {
        "base_sha256": hashlib.sha256(old).hexdigest(),
        "algorithm": "zstd-patch-from",
        "sha256": digest,
        "size_bytes": len(patch),
        "url": f"{server.url}/blobs/{digest}",
    }


OFFERS: dict[str, Callable[[Server, bytes, bytes], Any]] = {
    "made of another base": lambda server, old, new: offer_delta(server, old, make_patch(new, new)),
    "makes another file": lambda server, old, new: offer_delta(
        server, old, make_patch(old, new[:-1] + b"x")
    ),
    "makes a longer file": lambda server, old, new: offer_delta(
        server, old, make_patch(old, new * 9)
    ),
    "no patch": lambda server, old, new: offer_delta(server, old, b"no patch"),
    "torn": lambda server, old, new: offer_delta(server, old, make_patch(old, new)[:-9]),
    "a base that is not here": lambda server, old, new: offer_delta(
        server, b"elsewhere", make_patch(old, new)
    ),
    "bytes of another digest": lambda server, old, new: {
        **offer_delta(server, old, make_patch(old, new)),
        "sha256": "0" * 64,
    },
    "an address that is gone": lambda server, old, new: {
        **offer_delta(server, old, make_patch(old, new)),
        "url": f"{server.url}/nowhere",
    },
    "a path for a digest": lambda server, old, new: {
        **offer_delta(server, old, make_patch(old, new)),
        "base_sha256": "../../../etc/passwd",
    },
    "larger than the file": lambda server, old, new: {
        **offer_delta(server, old, make_patch(old, new)),
        "size_bytes": 10**9,
    },
    "of another algorithm": lambda server, old, new: {
        **offer_delta(server, old, make_patch(old, new)),
        "algorithm": "bsdiff",
    },
    "without fields": lambda server, old, new: {"base_sha256": None},
    "no object": lambda server, old, new: ["delta"],
}


def follow_offer(agent: Agent, server: Server, make_offer: Callable[..., Any]) -> bool:
    """Installs a successor under an offer; True when the whole file was taken for it."""
    old, new = make_model(), make_model(seed=1)
    server.publish(old)
    agent.sync()
    server.publish(new, counter=2, sequence=2)
    assert server.answer is not None
    released = set(server.blobs)
    server.answer["delta"] = make_offer(server, old, new)
    assert agent.sync() == {MODEL}
    digest = hashlib.sha256(new).hexdigest()
    assert agent.layout.blob(digest).read_bytes() == new
    patches = set(server.blobs) - released
    assert not patches & set(agent.files.list(agent.layout.blobs)), "no patch is left behind"
    return any(path == f"/blobs/{digest}" for _, path, _ in server.requests)


def make_good_offer(server: Server, old: bytes, new: bytes) -> dict[str, Any]:
    return offer_delta(server, old, make_patch(old, new))


def test_an_offered_delta_is_taken_instead_of_the_file(agent: Agent, server: Server) -> None:
    assert not follow_offer(agent, server, make_good_offer)


@pytest.mark.parametrize("name", OFFERS)
def test_a_bad_offer_costs_only_the_whole_file(agent: Agent, server: Server, name: str) -> None:
    assert follow_offer(agent, server, OFFERS[name])


def test_without_memory_for_it_the_whole_file_is_taken(
    agent: Agent, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "read_available_bytes", lambda: delta.MEMORY_RESERVE_BYTES)
    assert follow_offer(agent, server, make_good_offer)


def test_a_patch_that_runs_out_of_memory_costs_only_the_whole_file(
    agent: Agent, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(delta, "apply_patch", run_out)
    assert follow_offer(agent, server, make_good_offer)


@pytest.mark.parametrize(
    ("available", "is_enough"),
    [(None, True), (delta.MEMORY_RESERVE_BYTES + 3050, True),
     (delta.MEMORY_RESERVE_BYTES + 3049, False)],
)  # fmt: skip
def test_the_base_the_patch_and_twice_the_new_file_must_fit(
    available: int | None, is_enough: bool
) -> None:
    if is_enough:
        delta.check_memory(1000, 50, 1000, available=available)
    else:
        with pytest.raises(DownloadError, match="needs"):
            delta.check_memory(1000, 50, 1000, available=available)
