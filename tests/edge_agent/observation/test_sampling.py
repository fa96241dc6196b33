"""Sampled inputs: off by default, unsure ones first, bounded, gone once they may not be sent."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Config, SamplingConfig
from edge_agent.exceptions import AnswerError, TransferError
from edge_agent.files import DiskFiles
from edge_agent.observation.sampling import Reservoir, Sample, Sampler
from edge_agent.releases.trust import Manifest, parse_manifest
from tests.edge_agent.publisher import make_manifest, make_model

UNSURE, SURE = 0.3, 0.99


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Inbox:
    """The one call of the client that the sampler makes; answers what the test says."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def post_samples(self, model: str, manifest_sha256: str, body: bytes) -> None:
        if self.error is not None:
            raise self.error
        with np.load(io.BytesIO(body)) as arrays:
            self.received.append((model, manifest_sha256, dict(arrays)))


@pytest.fixture
def manifest() -> Manifest:
    document = make_manifest({"model.onnx": ("model", make_model())})
    return parse_manifest(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "samples"
    path.mkdir()
    yield path


def make_sampler(folder: Path, clock: Clock, **over: Any) -> Sampler:
    fields: dict[str, Any] = {"enabled": True, "rate": 1.0, "batch_rows": 20}
    return Sampler(
        SamplingConfig(**{**fields, **over}),
        folder,
        DiskFiles(),
        monotonic=clock,
        generator=random.Random(1),
    )


def offer(sampler: Sampler, manifest: Manifest, count: int, confidence: float = SURE) -> None:
    for number in range(count):
        row = np.full((1, 4), number + confidence, np.float32)
        sampler.offer(manifest, row, class_id=number % 3, confidence=confidence)


def test_it_is_off_unless_the_owner_switches_it_on(folder: Path, manifest: Manifest) -> None:
    assert Config("a", "http://x", folder).sampling.enabled is False
    sampler = make_sampler(folder, Clock(), enabled=False)
    offer(sampler, manifest, 50, UNSURE)
    assert sampler.store() == 0
    assert list(folder.iterdir()) == []


def test_switching_it_off_erases_what_was_kept(
    folder: Path, manifest: Manifest, clock: Clock
) -> None:
    sampler = make_sampler(folder, clock)
    offer(sampler, manifest, 5)
    assert sampler.store() == 1
    make_sampler(folder, clock, enabled=False)
    assert list(folder.iterdir()) == []


def test_a_batch_names_its_release_and_brings_inputs_and_answers(
    folder: Path, manifest: Manifest, clock: Clock, inbox: Inbox
) -> None:
    sampler = make_sampler(folder, clock)
    offer(sampler, manifest, 3)
    sampler.offer(manifest, {"input": np.ones((1, 4), np.float32)}, class_id=1, confidence=UNSURE)
    sampler.store()
    assert sampler.upload(inbox) == 1  # type: ignore[arg-type]
    model, digest, arrays = inbox.received[0]
    assert (model, digest) == (manifest.model, manifest.digest)
    assert arrays["x"].shape == (4, 4)
    assert arrays["class_id"].dtype == np.int64
    assert sorted(arrays["confidence"].round(2).tolist()) == pytest.approx([0.3, 0.99, 0.99, 0.99])
    assert sampler.stat()["files"] == 0


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 30), st.integers(0, 5))
def test_sure_answers_never_keep_an_unsure_one_out(kinds: list[bool], size: int, seed: int) -> None:
    reservoir = Reservoir(size, random.Random(seed))
    for is_unsure in kinds:
        reservoir.add(Sample({}, 0, 0.5, is_unsure))
    taken = reservoir.take()
    assert len(taken) == min(size, len(kinds))
    assert sum(sample.is_unsure for sample in taken) == min(size, sum(kinds))
    assert len(reservoir) == 0


def test_an_early_input_is_no_likelier_to_be_kept_than_a_late_one() -> None:
    kept = np.zeros(100)
    for seed in range(2000):
        reservoir = Reservoir(10, random.Random(seed))
        for number in range(100):
            reservoir.add(Sample({}, number, SURE, False))
        for sample in reservoir.take():
            kept[sample.class_id] += 1
    # 2000 draws of 10 from 100: 200 each, six standard deviations are 80.
    assert np.abs(kept - 200).max() < 80


def test_the_rate_thins_sure_answers_and_no_unsure_ones(
    folder: Path, manifest: Manifest, clock: Clock, inbox: Inbox
) -> None:
    sampler = make_sampler(folder, clock, rate=0.1, batch_rows=5000)
    offer(sampler, manifest, 2000)
    offer(sampler, manifest, 100, UNSURE)
    sampler.store()
    sampler.upload(inbox)  # type: ignore[arg-type]
    confidence = inbox.received[0][2]["confidence"]
    assert (confidence < 0.6).sum() == 100
    assert 120 <= (confidence > 0.6).sum() <= 280


def test_the_cap_drops_the_oldest_batches_and_counts_them(
    folder: Path, manifest: Manifest, clock: Clock, inbox: Inbox
) -> None:
    offer(first := make_sampler(folder, clock), manifest, 20)
    first.store()
    size = first.stat()["bytes"]
    sampler = make_sampler(folder, clock, max_bytes=3 * size)
    for _ in range(5):
        offer(sampler, manifest, 20)
        sampler.store()
    assert sampler.stat()["bytes"] <= 3 * size
    assert sampler.stat()["files"] + sampler.dropped == 6


def test_a_refusal_by_the_server_erases_and_stops_the_collecting_for_a_while(
    folder: Path, manifest: Manifest, clock: Clock, inbox: Inbox
) -> None:
    sampler = make_sampler(folder, clock, refused_wait_s=60.0)
    offer(sampler, manifest, 5)
    sampler.store()
    inbox.error = AnswerError(403, "sampling_not_allowed", "no")
    assert sampler.upload(inbox) == 0  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []
    offer(sampler, manifest, 5)
    assert sampler.store() == 0
    clock.now = 61.0
    offer(sampler, manifest, 5)
    assert sampler.store() == 1


def test_a_file_that_the_server_stumbles_over_does_not_hold_up_the_others(
    folder: Path, clock: Clock, manifest: Manifest, inbox: Inbox
) -> None:
    sampler = make_sampler(folder, clock)
    for count in (1, 2, 3):
        offer(sampler, manifest, count)
        sampler.store()
    take = inbox.post_samples

    def stumble(model: str, manifest_sha256: str, body: bytes) -> None:
        with np.load(io.BytesIO(body)) as arrays:
            if len(arrays["class_id"]) == 1:
                raise AnswerError(500, "", "stumbled")
        take(model, manifest_sha256, body)

    inbox.post_samples = stumble  # type: ignore[method-assign]
    with pytest.raises(AnswerError):
        sampler.upload(inbox)  # type: ignore[arg-type]
    assert sorted(len(arrays["class_id"]) for _, _, arrays in inbox.received) == [2, 3]
    assert sampler.stat()["files"] == 1


def test_the_servers_switch_is_obeyed_with_the_next_report(
    folder: Path, clock: Clock, manifest: Manifest
) -> None:
    sampler = make_sampler(folder, clock)

    def held_after_offer() -> int:
        offer(sampler, manifest, 1, UNSURE)
        return int(sampler.stat()["held"])

    assert held_after_offer() == 1
    sampler.store()
    sampler.obey(is_allowed=False)
    assert (sampler.stat()["files"], held_after_offer()) == (0, 0), (
        "erased, and nothing more is held"
    )
    clock.now += 1.0
    sampler.obey(is_allowed=True)
    assert held_after_offer() == 1, "at once, and not after the wait for a refusal"
    assert make_sampler(folder, clock, enabled=False).stat()["is_enabled"] is False


@pytest.mark.parametrize(
    ("error", "left"),
    {
        "no network": (TransferError("no route"), 1),
        "the server is busy": (AnswerError(503, "busy", "later"), 1),
        "never usable": (AnswerError(400, "invalid", "no"), 0),
        "too large": (AnswerError(413, "too_large", "no"), 0),
    }.values(),
)
def test_a_batch_stays_until_it_was_taken_or_never_will_be(
    folder: Path, manifest: Manifest, clock: Clock, inbox: Inbox, error: Exception, left: int
) -> None:
    sampler = make_sampler(folder, clock)
    offer(sampler, manifest, 5)
    sampler.store()
    inbox.error = error
    if left:
        with pytest.raises(TransferError):
            sampler.upload(inbox)  # type: ignore[arg-type]
    else:
        sampler.upload(inbox)  # type: ignore[arg-type]
    assert sampler.stat()["files"] == left


def test_an_input_too_large_for_its_share_is_left_out(
    folder: Path, manifest: Manifest, clock: Clock
) -> None:
    sampler = make_sampler(folder, clock, max_batch_bytes=20 * 64)
    sampler.offer(manifest, np.ones((1, 17), np.float32), class_id=0, confidence=UNSURE)
    assert sampler.store() == 0
