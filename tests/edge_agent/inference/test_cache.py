"""Answers kept by input: the right ones, no longer than allowed, and safe from their readers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.config import InferenceConfig
from edge_agent.inference import cache as cache_module
from edge_agent.inference.cache import ResultCache, blake2b_digest
from edge_agent.inference.session import ModelSession
from tests.edge_agent.publisher import make_model
from tests.edge_agent.releases import make_session

ROW = np.ones((1, 4), dtype=np.float32)


@pytest.fixture
def session(tmp_path: Path) -> ModelSession:
    return make_session(tmp_path, make_model(), InferenceConfig(cache_entries=4))


def test_the_least_used_goes_first_and_none_outlives_its_time(session: ModelSession) -> None:
    now = [0.0]
    cache = ResultCache(2, ttl_s=10, release="ab" * 32, clock=lambda: now[0])
    keys = [cache.key(ROW * n) for n in range(3)]
    result = session.infer(ROW)
    cache.put(keys[0], result)
    cache.put(keys[1], result)
    assert cache.get(keys[0]) is result
    cache.put(keys[2], result)
    assert cache.get(keys[1]) is None
    now[0] = 11
    assert cache.get(keys[0]) is None
    assert (cache.hits, cache.misses) == (1, 2)


@pytest.mark.parametrize("digest", [cache_module.digest_bytes, blake2b_digest])
def test_inputs_of_other_bytes_shape_or_type_share_no_key(
    digest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "digest_bytes", digest)
    cache = ResultCache(2, ttl_s=10, release="ab" * 32)
    x = np.zeros((2, 2), dtype=np.float32)
    different = [x, x.reshape(1, 4), x.view(np.int32), x + 1]
    assert len({cache.key(tensor) for tensor in different}) == 4
    wide = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert cache.key(wide[:, ::2]) == cache.key(wide[:, ::2].copy())
    assert cache.key(wide[:, ::2]) != cache.key(wide[:, 1::2])


def test_keys_of_one_release_mean_nothing_to_another() -> None:
    first, second = (ResultCache(2, ttl_s=10, release=name * 32) for name in ("ab", "cd"))
    assert first.key(ROW) != second.key(ROW)


def test_a_repeated_input_is_answered_without_the_runtime(session: ModelSession) -> None:
    first, second = session.infer(ROW), session.infer(ROW.copy())
    assert (first.is_cached, second.is_cached) == (False, True)
    assert second.top_k == first.top_k
    assert second.latency_ms == 0.0
    assert session.latency.count == 1


def test_a_reader_who_writes_into_an_answer_is_refused_and_changes_nothing(
    session: ModelSession,
) -> None:
    expected = session.infer(ROW).outputs[0].copy()
    for _ in range(2):
        answer = session.infer(ROW)
        with pytest.raises(ValueError, match="read-only"):
            answer.outputs[0][:] = 7
    assert (session.infer(ROW).outputs[0] == expected).all()


def test_without_a_cache_answers_belong_to_their_reader(tmp_path: Path) -> None:
    session = make_session(tmp_path, make_model())
    session.infer(ROW).outputs[0][:] = 7
    assert not (session.infer(ROW).outputs[0] == 7).all()


def test_an_input_that_changes_after_the_call_is_another_input(session: ModelSession) -> None:
    row = ROW.copy()
    first = session.infer(row)
    row *= 5
    second = session.infer(row)
    assert not second.is_cached
    assert (second.outputs[0] != first.outputs[0]).any()
