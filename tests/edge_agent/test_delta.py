"""Deltas save bytes and never decide: whatever is wrong with one, the whole file is taken."""

import hashlib
from typing import Any

import numpy as np
import pytest

from edge_agent import delta
from edge_agent.agent import Agent
from edge_agent.exceptions import DownloadError
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


@pytest.mark.parametrize("is_good", [True, False])
def test_an_offered_delta_is_taken_and_a_bad_one_costs_only_the_whole_file(
    agent: Agent, server: Server, is_good: bool
) -> None:
    old, new = make_model(), make_model(seed=1)
    server.publish(old)
    agent.sync()
    server.publish(new, counter=2, sequence=2)
    assert server.answer is not None
    patch = make_patch(old, new if is_good else old + b"x")
    server.answer["delta"] = offer_delta(server, old, patch)
    assert agent.sync() == {MODEL}
    whole = f"/blobs/{hashlib.sha256(new).hexdigest()}"
    assert any(path == whole for _, path, _ in server.requests) == (not is_good)
    assert agent.layout.blob(hashlib.sha256(new).hexdigest()).read_bytes() == new
