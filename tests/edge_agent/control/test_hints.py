"""Everything in an answer that no signature covers, in hostile hands: it costs time at most.

Each case plays an owner of the connection who has no signing key: a genuine release runs, another
genuine one is offered, and one hint is twisted. Afterwards nothing that the device had is gone, and
the first honest answer brings the new release.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.agent import Agent
from edge_agent.config import Config
from edge_agent.control.answers import (
    join_address,
    read_delta_offer,
    read_receipt,
    read_sampling_switch,
)
from edge_agent.control.backoff import backoff_delay_s
from edge_agent.exceptions import AgentError, DownloadError, NotTheServerError
from edge_agent.install import delta
from edge_agent.observation.spool import Row
from tests.edge_agent.publisher import (
    MODEL,
    STRANGER_KEY,
    Server,
    make_golden,
    make_model,
)

OLD, NEW = make_model(), make_model(seed=1)
OLD_DIGEST, NEW_DIGEST = (hashlib.sha256(data).hexdigest() for data in (OLD, NEW))
Twist = Callable[[Server, dict[str, Any]], None]


def json_hook(status: int, body: Any, **headers: str) -> Callable[[Any], bool]:
    data = json.dumps(body).encode()

    def hook(request: Any) -> bool:
        request.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        base = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, value in (base | named).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)
        return True

    return hook


def offer(server: Server, **over: Any) -> dict[str, Any]:
    base = {"algorithm": delta.ALGORITHM, "base_sha256": OLD_DIGEST, "sha256": OLD_DIGEST}
    return {**base, "size_bytes": 1, "url": f"{server.url}/blobs/{OLD_DIGEST}", **over}


def twist(**over: Any) -> Twist:
    return lambda server, answer: answer.update(over)


def twist_delta(**over: Any) -> Twist:
    return lambda server, answer: answer.update(delta=offer(server, **over))


def twist_hook(pattern: str, hook: Callable[[Any], bool]) -> Twist:
    return lambda server, answer: server.hooks.append((pattern, hook))


def add_signature(server: Server, answer: dict[str, Any]) -> None:
    """Names a key of tomorrow beside the signature of today."""
    stranger = hashlib.sha256(bytes(STRANGER_KEY.verify_key)).hexdigest()
    for name in ("assignment", "manifest"):
        answer[name]["signatures"].append({"keyid": stranger, "sig": "AAAA"})


TWISTS: dict[str, Twist] = {
    "a patch that claims to be the running model": twist_delta(),
    "a patch that claims to be the running model, whole": twist_delta(size_bytes=len(OLD)),
    "a patch that claims to be the new model": twist_delta(sha256=NEW_DIGEST),
    "a patch of the running model's golden file": twist_delta(
        sha256=hashlib.sha256(make_golden(OLD)).hexdigest()
    ),
    "a patch named by a path": twist_delta(sha256="../../state.json"),
    "a base named by a path": twist_delta(base_sha256="../manifests"),
    "a patch of another size": twist_delta(size_bytes=len(NEW) - 1),
    "a patch of no bytes": twist_delta(size_bytes=0),
    "a patch of less than no bytes": twist_delta(size_bytes=-5),
    "a patch at an address of the disk": twist_delta(url="file:///etc/passwd"),
    "files that name the running model": twist(
        files=[{"sha256": OLD_DIGEST, "url": "/blobs/nowhere"}], sha256=None
    ),
    "another digest at the top": twist(sha256=OLD_DIGEST, size_bytes=1),
    "an action at the top": twist(action="remove", assignment_id="x"),
    "revoked ids at the top": twist(revoked=[OLD_DIGEST], blocked=[OLD_DIGEST], floor_sequence=99),
    "a budget at the top": twist(download_budget_sizes=0, max_tries=0, config={"install": {}}),
    "another release's names": twist(version="0.0.0", variant="none", rollout={"id": -1}),
    "a poll that is never due": twist(poll_after_s=math.inf),
    "a poll that is due at once": twist(poll_after_s=-1e300),
    "a trust that is news": twist(trust={"root": 10**9, "version": -1, "x": "9" * 5000}),
    "a trust of no object": twist(trust=["x", None]),
    "a signature of a key of tomorrow": add_signature,
    "a rollout that is aborted": twist_hook("/events", json_hook(410, {"code": "aborted"})),
    "a device that is suspended": twist_hook("/latest", json_hook(403, {"code": "suspended"})),
    "a device that nobody knows": twist_hook("/latest", json_hook(401, {"code": "unauthorized"})),
    "nothing assigned": twist_hook("/latest", json_hook(204, None)),
    "nothing new": twist_hook("/latest", json_hook(304, None)),
    "a model that is gone": twist_hook("/latest", json_hook(404, {"code": "not_found"})),
    "come back in a year": twist_hook("/latest", json_hook(503, {"code": "x"}, Retry_After="9e9")),
    "files that are gone": twist_hook("/blobs/", json_hook(404, {})),
    "files that have expired": twist_hook("/blobs/", json_hook(403, {})),
    "a clock of 1970": twist_hook(
        "/latest", json_hook(200, {}, Date="Thu, 01 Jan 1970 00:00:00 GMT")
    ),
    "a clock of 2999": twist_hook(
        "/latest", json_hook(200, {}, Date="Fri, 01 Jan 2999 00:00:00 GMT")
    ),
}


def contents(home: Path) -> dict[str, bytes]:
    """What a device must not lose: its releases, their proofs, and who it is."""
    kept = [home / "credentials.json"]
    for folder in ("blobs", "manifests", "assignments", "factory"):
        kept += sorted((home / folder).iterdir())
    return {str(path.relative_to(home)): path.read_bytes() for path in kept}


@pytest.fixture
def running(agent: Agent, server: Server) -> Agent:
    """An agent whose release runs, with records in its spool."""
    server.publish(OLD)
    assert agent.sync() == {MODEL}
    agent.load_sessions()
    agent.spool.add_records([Row(0, json.dumps({"n": n})) for n in range(3)])
    return agent


def sync_and_survive(agent: Agent) -> None:
    for _ in range(2):
        try:
            agent.sync()
            agent.uploader.upload_records()
        except AgentError:
            continue


@pytest.mark.parametrize("name", TWISTS)
def test_a_twisted_hint_costs_time_at_most(running: Agent, server: Server, name: str) -> None:
    before = contents(running.config.home)
    release = running.installer.state.model(MODEL).current
    new = server.publish(NEW, counter=2, sequence=2, version="2.0.0")
    honest = json.loads(json.dumps(server.answer))
    # The genuine files are withheld, so that nothing good comes of it by the way.
    server.hooks.append((f"/blobs/{NEW_DIGEST}", json_hook(503, {})))
    assert server.answer is not None
    TWISTS[name](server, server.answer)
    sync_and_survive(running)
    after = contents(running.config.home)
    assert {path: data for path, data in after.items() if path in before} == before, name
    model = running.installer.state.model(MODEL)
    assert (model.current, model.blocked) == (release, {}), name
    assert not list(running.layout.parts.glob("*.patch*")), "no patch is left behind"
    restarted = Agent(running.config)
    try:
        restarted.installer.boot()
        restarted.load_sessions()
        assert restarted.slots[MODEL].session is not None, "it runs after a restart too"
    finally:
        restarted.close()
    server.hooks.clear()
    server.answer, server.etag = honest, server.etag + 1
    assert running.sync() == {MODEL}
    installed = running.installer.state.model(MODEL).current
    assert installed is not None and installed.manifest_sha256 == new


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
    | st.sampled_from((OLD_DIGEST, NEW_DIGEST, delta.ALGORITHM)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)  # fmt: skip
FIELDS = ("algorithm", "base_sha256", "sha256", "size_bytes", "url")


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, anything)) | anything,
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("files", "sha256", "download_url", "rollout"), anything)
    ),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_hint_at_all_removes_a_file(
    running: Agent, server: Server, patch: Any, rest: dict[str, Any]
) -> None:
    before = contents(running.config.home)
    server.publish(NEW, counter=2, sequence=2, version="2.0.0")
    assert server.answer is not None
    server.hooks[:] = [("/blobs/", json_hook(404, {}))]
    if isinstance(patch, dict):
        patch = {**offer(server), **patch}
    server.answer.update(delta=patch, **rest)
    running.poller.ask_anew(MODEL)
    running.sync()
    after = contents(running.config.home)
    assert {path: after.get(path) for path in before} == before


def test_a_bad_patch_is_asked_for_once(running: Agent, server: Server) -> None:
    server.publish(NEW, counter=2, sequence=2, version="2.0.0")
    assert server.answer is not None
    server.answer["delta"] = offer(server, url=f"{server.url}/patch")
    server.hooks += [(f"/blobs/{NEW_DIGEST}", json_hook(503, {})), ("/patch", json_hook(404, {}))]
    for _ in range(4):
        running.sync()
    assert sum(path == "/patch" for _, path, _ in server.requests) == 1


def test_a_stored_proof_holds_the_signatures_that_verify_and_no_others(
    running: Agent, server: Server
) -> None:
    server.publish(NEW, counter=2, sequence=2, version="2.0.0")
    assert server.answer is not None
    add_signature(server, server.answer)
    server.answer["assignment"]["padding"] = "x" * 1000
    assert running.sync() == {MODEL}
    for path in (*running.layout.assignments.iterdir(), *running.layout.manifests.iterdir()):
        document = json.loads(path.read_bytes())
        assert len(document["signatures"]) == 1, path
        assert set(document) == {"payloadType", "payload", "signatures"}
    assert len(running.installer.release_store.read_signers(MODEL)) == 1


RECEIPTS: dict[str, Any] = {
    "a portal's word": {"status": "ok"},
    "nothing": None,
    "a list": [],
    "no counts": {"accepted": None, "duplicates": None, "rejected": []},
    "too few": {"accepted": 2, "duplicates": 0, "rejected": []},
    "less than none": {"accepted": 4, "duplicates": -1, "rejected": []},
    "true": {"accepted": True, "duplicates": 2, "rejected": []},
    "texts": {"accepted": "3", "duplicates": "0", "rejected": []},
    "a rejection of no list": {"accepted": 0, "duplicates": 0, "rejected": 3},
}


@pytest.mark.parametrize("name", RECEIPTS)
def test_records_stay_until_a_receipt_accounts_for_each(
    running: Agent, server: Server, name: str
) -> None:
    server.hooks.append(("/api/ingest", json_hook(200, RECEIPTS[name])))
    with pytest.raises(NotTheServerError, match="receipt for 3 records"):
        running.uploader.upload_records()
    assert running.spool.stat()["records"] == 3
    server.hooks.clear()
    assert running.uploader.upload_records() == 3
    assert running.spool.stat()["records"] == 0


@given(anything, st.integers(1, 500))
def test_a_receipt_never_counts_more_than_was_sent(body: Any, sent: int) -> None:
    try:
        receipt = read_receipt(body, sent=sent)
    except NotTheServerError:
        return
    assert receipt.accepted + receipt.duplicates + receipt.rejected == sent


def test_a_receipt_of_more_than_was_sent_counts_what_was_sent() -> None:
    receipt = read_receipt({"accepted": 10**9, "duplicates": 5, "rejected": ["x"]}, sent=3)
    assert (receipt.accepted, receipt.duplicates, receipt.rejected) == (3, 0, 0)


@given(anything)
def test_an_offer_or_a_switch_is_one_or_none(body: Any) -> None:
    row = body if isinstance(body, dict) else {}
    found = read_delta_offer({"delta": {**row}}, server_url="http://server")
    assert found is None or (found.size_bytes > 0 and len(found.sha256) == 64)
    assert read_sampling_switch(body) in (None, True, False)


@pytest.mark.parametrize("value", [9e9, math.inf, 1e308, 86_400.0])
def test_no_retry_after_silences_a_device_for_more_than_two_hours(value: float) -> None:
    longest = backoff_delay_s(
        30, base_s=1.0, max_s=300.0, retry_after_s=value, uniform=lambda _, high: high
    )
    assert longest <= 2 * 3600.0


@pytest.mark.parametrize(
    "address", ["http://store/x", "ftp://store/x", "file:///x", "HTTP://10.0.0.1/reboot"]
)
def test_a_server_of_https_sends_nobody_to_a_plain_address(address: str) -> None:
    with pytest.raises(DownloadError, match="https"):
        join_address("https://server/", address)
    assert join_address("https://server/", "/blobs/x") == "https://server/blobs/x"


def test_a_server_s_words_stay_on_one_line_of_the_log(agent: Agent, server: Server) -> None:
    words = "no\n2026-01-01 ERROR edge_agent: forged\x1b[31m"
    server.hooks.append(("/latest", json_hook(400, {"code": words, "message": words})))
    with pytest.raises(AgentError) as caught:
        agent.sync()
    assert str(caught.value).isprintable()


def test_telemetry_answered_with_nonsense_loses_no_event(config: Config, server: Server) -> None:
    from edge_agent.run import Runner

    agent = Agent(config)
    try:
        agent.enroll()
        runner = Runner(agent)
        for body in ([], "x", 7, None, {"is_sampling_allowed": "yes"}, {"is_sampling_allowed": []}):
            server.hooks[:] = [("/telemetry", json_hook(200, body))]
            runner.reporter.send_telemetry()
    finally:
        agent.close()
