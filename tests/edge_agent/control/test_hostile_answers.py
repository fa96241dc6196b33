"""Answers nobody signed, with anything in them: named, without effect, and over when they are."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agent import Agent
from edge_agent.config import Config
from edge_agent.control.answers import (
    find_address,
    read_assignments,
    read_date,
    read_etag,
    read_poll_after_s,
)
from edge_agent.exceptions import AgentError, DownloadError, NotTheServerError
from edge_agent.install import delta
from servers.kept import Kept
from servers.patience import wait_for
from tests.edge_agent.control.test_network import BLOB, MODEL_BYTES, Hook, answer, is_installed
from tests.edge_agent.publisher import MODEL, Server, make_model
from tests.edge_agent.test_run import all_records, start, toml

__all__ = ["start", "toml"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("assignments", "files", "sha256", "url", "model_id", "download_url")),
            inner,
        )
    ),
    max_leaves=8,
)


@given(anything)
def test_no_answer_to_a_poll_raises_anything_but_that_it_is_none(body: Any) -> None:
    try:
        rows = read_assignments(body)
    except NotTheServerError:
        return
    assert all(isinstance(slug, str) and isinstance(row, dict) for slug, row in rows)


@given(st.dictionaries(st.sampled_from(("files", "sha256", "download_url")), anything))
def test_no_answer_has_an_address_that_is_no_text(body: dict[str, Any]) -> None:
    for sha256 in ("", "a", "0" * 64):
        with contextlib.suppress(DownloadError):
            assert isinstance(find_address(body, sha256, "http://server"), str)


@given(anything | st.sampled_from((math.nan, math.inf, -math.inf, 10**400, "nan", "1e999", b"")))
def test_the_next_poll_is_due_within_limits_whatever_the_server_says(value: Any) -> None:
    seconds = read_poll_after_s(value, default=5.0, most=3600.0)
    assert 0.2 <= seconds <= 3600.0


@given(st.text(max_size=40))
def test_a_date_is_a_time_with_a_zone_or_nothing(text: str) -> None:
    found = read_date(text)
    assert found is None or found.tzinfo is not None


def test_a_date_without_a_zone_is_taken_for_utc() -> None:
    found = read_date("Wed, 25 Nov 2026 00:00:00 -0000")
    assert found is not None and found.isoformat() == "2026-11-25T00:00:00+00:00"


def test_a_long_etag_is_not_sent_back() -> None:
    assert read_etag('"ours"') == '"ours"'
    assert read_etag("x" * 60_000) == read_etag(None) == ""


#: What the answer's unsigned parts become. The signed documents stay as they are.
TWISTED: dict[str, dict[str, Any]] = {
    "files of no list": {"files": 7, "sha256": None},
    "files of no objects": {"files": [None, 7, "x", []]},
    "no address": {"files": [{"sha256": BLOB[7:]}], "sha256": None},
    "an address of no text": {"files": [{"sha256": BLOB[7:], "url": {"a": 1}}]},
    "an address of no host": {"files": [{"sha256": BLOB[7:], "url": "http://["}]},
    "an address of the disk": {"files": [{"sha256": BLOB[7:], "url": "file:///etc/passwd"}]},
    "an address of surrogates": {"files": [{"sha256": BLOB[7:], "url": "http://\udcff/x"}]},
    "an assignment of no object": {"assignment": [7]},
    "a manifest of no object": {"manifest": "x"},
    "signatures by the thousand": {"assignment": {"signatures": [{}] * 5000}},
}


@pytest.mark.parametrize("name", TWISTED)
def test_a_twisted_answer_is_this_model_s_trouble_and_over_when_it_is(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(MODEL_BYTES)
    honest = server.answer
    assert honest is not None
    server.answer = {**honest, **TWISTED[name]}
    assert agent.sync() == set()
    assert f"model {MODEL}" in agent.trouble
    server.answer = honest
    server.etag += 1
    assert agent.sync() == {MODEL}
    assert agent.trouble == {}


BAD_FILES: dict[str, Hook] = {
    "a length of other digits": answer(200, MODEL_BYTES, Content_Length="\xb2"),
    "a length of five thousand digits": answer(200, MODEL_BYTES, Content_Length="9" * 5000),
    "a redirect to no address": answer(302, b"", Location="http://["),
    "a redirect to nobody": answer(302, b"", Location="http://"),
    "a length of nothing": answer(200, MODEL_BYTES, Content_Length=""),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_headers_of_a_file_that_are_none_are_named_and_over_when_they_are(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, BAD_FILES[name]))
    agent.sync()
    assert is_installed(agent) or f"model {MODEL}" in agent.trouble
    server.hooks.clear()
    agent.sync()
    assert is_installed(agent)


def test_a_resumed_range_of_five_thousand_digits_is_a_failed_transfer(
    agent: Agent, server: Server
) -> None:
    server.publish(MODEL_BYTES)
    agent.layout.part(BLOB[7:]).write_bytes(MODEL_BYTES[:40])
    digits = "4" * 5000
    hook = answer(206, MODEL_BYTES[40:], Content_Range=f"bytes {digits}-{digits}/{digits}")
    server.hooks.append((BLOB, hook))
    agent.sync()
    assert "answered 'bytes 4444" in agent.trouble[f"model {MODEL}"]
    server.hooks.clear()
    assert agent.sync() == {MODEL}


OFFERS: dict[str, Any] = {
    "an endless patch": {"size_bytes": math.inf},
    "a patch of no number": {"size_bytes": math.nan},
    "an address of no text": {"url": 7},
    "no algorithm": {"algorithm": None},
}


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_of_a_delta_that_is_none_costs_only_the_delta(
    agent: Agent, server: Server, name: str
) -> None:
    server.publish(MODEL_BYTES)
    assert server.answer is not None
    offer = {
        "algorithm": delta.ALGORITHM, "size_bytes": 7, "base_sha256": "0" * 64,
        "sha256": "1" * 64, "url": "/delta",
    }  # fmt: skip
    server.answer["delta"] = {**offer, **OFFERS[name]}
    assert agent.sync() == {MODEL}


def test_models_that_nobody_signed_for_leave_no_trace(server: Server, config: Config) -> None:
    agent = Agent(dataclasses.replace(config, models=()))
    try:
        agent.enroll()
        for number in range(3):
            rows = [{"model_id": f"{number}-{index}"} for index in range(60)]
            server.hooks = [("/desired", json_answer({"assignments": rows}))]
            agent.sync()
            assert len(agent.trouble) == 60, "only of the last answer"
        assert agent.installer.state.models == {}
        server.hooks = [("/desired", json_answer({"assignments": [{}] * 65}))]
        with pytest.raises(NotTheServerError):
            agent.sync()
        server.hooks.clear()
        server.publish(MODEL_BYTES)
        assert agent.sync() == {MODEL}
        assert agent.trouble == {}
    finally:
        agent.close()


def json_answer(body: Any) -> Hook:
    return answer(200, json.dumps(body).encode(), Content_Type="application/json")


ENROLMENTS: dict[str, Any] = {
    "a token of two lines": {"token": "a\r\nX-Evil: 1", "trust_keys": []},
    "a token of no text": {"token": {"a": 1}, "trust_keys": []},
    "no keys": {"token": "t", "trust_keys": None},
    "keys of no objects": {"token": "t", "trust_keys": [7, "x"]},
    "roles of no list": {
        "token": "t",
        "trust_keys": [{"algorithm": "ed25519", "keyid": "x", "public_key": "", "roles": 7}],
    },
    "no object": [],
}


@pytest.mark.parametrize("name", ENROLMENTS)
def test_an_enrolment_answered_with_nonsense_leaves_no_credentials(
    server: Server, config: Config, name: str
) -> None:
    server.hooks.append(("/enroll", json_answer(ENROLMENTS[name])))
    agent = Agent(config)
    try:
        with pytest.raises(AgentError):
            agent.enroll()
        assert not agent.layout.credentials.exists()
        server.hooks.clear()
        assert agent.enroll() == "accepted"
    finally:
        agent.close()


def test_a_portal_that_says_come_back_tomorrow_is_asked_again_within_minutes(
    agent: Agent, server: Server
) -> None:
    server.hooks.append(("latest", answer(503, b"<html>", Retry_After="86400")))
    with pytest.raises(AgentError) as caught:
        agent.sync()
    assert getattr(caught.value, "retry_after_s", None) == agent.config.network.backoff_max_s


def test_endless_continues_are_given_up(server: Server, config: Config) -> None:
    def go_on(request: Any) -> bool:
        request.close_connection = True
        try:
            for _ in range(2_000_000):
                request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 40)
        except OSError:
            pass
        return True

    network = dataclasses.replace(config.network, answer_deadline_s=0.5)
    agent = Agent(dataclasses.replace(config, network=network))
    try:
        agent.enroll()
        server.hooks.append(("latest", go_on))
        with pytest.raises(AgentError):
            agent.sync()
        server.hooks.clear()
        server.publish(MODEL_BYTES)
        assert agent.sync() == {MODEL}
    finally:
        agent.close()


def test_a_poll_that_is_never_due_by_the_server_s_word_comes_all_the_same(
    server: Server, toml: Path, start: Callable[[], Kept]
) -> None:
    server.publish(make_model())
    assert server.answer is not None
    server.answer["poll_after_s"] = math.nan
    start()
    wait_for(lambda: len(all_records(server)) > 5)
    polls = sum("latest" in path for _, path, _ in list(server.requests))
    wait_for(lambda: sum("latest" in path for _, path, _ in list(server.requests)) > polls)
