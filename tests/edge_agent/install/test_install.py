"""Whole installs against a real server over real HTTP, with real models."""

import dataclasses
import io
from pathlib import Path

import numpy as np

from edge_agent.agent import Agent
from edge_agent.config import Config, SpoolConfig
from edge_agent.control.processor import read_instruction_sets, read_processor_name
from edge_agent.observation.spool import Spool
from edge_agent.releases.state import StateStore
from edge_agent.serving.slots import ModelSlot
from tests.edge_agent.publisher import MODEL, Server, make_golden, make_model


def current(agent: Agent) -> str | None:
    release = agent.installer.state.model(MODEL).current
    return release.manifest_sha256 if release else None


def test_a_good_release_is_committed_and_runs(agent: Agent, server: Server) -> None:
    digest = server.publish(make_model())
    assert agent.sync() == {MODEL}
    agent.load_sessions()
    assert current(agent) == digest
    session = agent.slots[MODEL].session
    assert session is not None
    result = session.infer(np.ones((1, 4), dtype=np.float32))
    assert result.class_id in (0, 1, 2)
    assert abs(sum(chance for _, _, chance in result.top_k) - 1) < 1e-6
    assert server.states() == [
        ("downloading", ""),
        ("verified", ""),
        ("trial", ""),
        ("committed", ""),
    ]
    assert [event["seq"] for event in server.events] == [1, 2, 3, 4]


def test_an_unchanged_assignment_is_asked_for_with_its_etag(agent: Agent, server: Server) -> None:
    digest = server.publish(make_model())
    agent.sync()
    assert agent.sync() == set()
    headers = server.requests[-1][2]
    assert headers["If-None-Match"] == '"1"'
    assert headers["X-Running-Digest"] == digest
    assert agent.poller.poll_after_s == 0.3


def test_a_release_that_fails_its_golden_vectors_is_blocked(agent: Agent, server: Server) -> None:
    good = server.publish(make_model())
    agent.sync()
    model = make_model(seed=1)
    bad = server.publish(model, golden=make_golden(model, offset=0.5), counter=2, sequence=2)
    assert agent.sync() == set()
    assert current(agent) == good
    assert agent.installer.state.model(MODEL).blocked[bad].startswith("self_test_failed")
    assert server.states()[-1] == ("failed", "self_test_failed")


def test_a_blocked_release_is_not_tried_again_but_answered(agent: Agent, server: Server) -> None:
    model = make_model(seed=1)
    server.publish(model, golden=make_golden(model, offset=0.5))
    agent.sync()
    server.publish(model, golden=make_golden(model, offset=0.5), counter=2)
    agent.sync()
    assert server.states()[-1] == ("failed", "blocked")
    assert current(agent) is None


def test_a_release_with_infinite_outputs_is_blocked(agent: Agent, server: Server) -> None:
    server.publish(make_model(bias=float("inf")), golden=make_golden(make_model()))
    agent.sync()
    assert server.states()[-1] == ("failed", "non_finite")


def test_a_file_that_is_no_model_is_blocked(agent: Agent, server: Server) -> None:
    server.publish(b"not a model", golden=make_golden(make_model()))
    agent.sync()
    assert server.states()[-1] == ("failed", "load_failed")


def test_an_older_counter_changes_nothing(agent: Agent, server: Server) -> None:
    digest = server.publish(make_model(), counter=5)
    agent.sync()
    server.publish(make_model(seed=1), counter=4, sequence=2)
    agent.sync()
    assert current(agent) == digest


def test_a_rollback_blocks_the_release_and_survives_a_restart(
    agent: Agent, server: Server, config: Config
) -> None:
    first = server.publish(make_model())
    agent.sync()
    second = server.publish(make_model(seed=1), counter=2, sequence=2)
    agent.sync()
    assert agent.installer.roll_back(MODEL, code="health_check_failed", detail="p95")
    agent.sync()
    assert current(agent) == first
    state = StateStore(agent.files, agent.layout).load()
    assert state is not None
    stored = state.model(MODEL)
    assert stored.current and stored.current.manifest_sha256 == first
    assert second in stored.blocked
    assert server.states()[-1] == ("rolled_back", "health_check_failed")


def test_the_server_can_go_back_to_the_release_before(agent: Agent, server: Server) -> None:
    first = server.publish(make_model())
    agent.sync()
    server.publish(make_model(seed=1), counter=2, sequence=2)
    agent.sync()
    server.publish(make_model(), counter=3)
    assert agent.sync() == {MODEL}
    assert current(agent) == first


def test_a_damaged_current_release_falls_back_to_the_previous_one(
    agent: Agent, server: Server, config: Config
) -> None:
    first = server.publish(make_model())
    agent.sync()
    server.publish(make_model(seed=1), counter=2, sequence=2)
    agent.sync()
    release = agent.installer.state.model(MODEL).current
    assert release is not None
    model = agent.installer.release_store.load_manifest(release.manifest_sha256).file_of_role(
        "model"
    )
    assert model is not None
    path = agent.layout.blob(model.sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    agent.installer.boot()
    assert current(agent) == first
    agent.sync()
    assert current(agent) != first, "the next poll fetches the damaged release again"


def test_a_release_that_needs_another_provider_is_refused_before_the_download(
    agent: Agent, server: Server
) -> None:
    server.publish(make_model(), requirements={"providers": ["rockchip"]})
    agent.sync()
    assert server.states() == [("failed", "requirement_unmet")]
    assert not any(path.startswith("/blobs/") for _, path, _ in server.requests)


def test_the_old_session_serves_until_the_new_one_is_loaded(agent: Agent, server: Server) -> None:
    server.publish(make_model())
    agent.sync()
    agent.load_sessions()
    slot: ModelSlot = agent.slots[MODEL]
    old = slot.session
    server.publish(make_model(seed=1), counter=2, sequence=2)
    agent.sync()
    assert slot.session is old
    agent.load_sessions()
    assert slot.session is not old and slot.session is not None


def test_a_release_that_this_device_cannot_run_is_reported_and_not_blocked(
    server: Server, config: Config
) -> None:
    strict = dataclasses.replace(config.inference, providers=("cuda",), strict=True)
    agent = Agent(dataclasses.replace(config, inference=strict))
    agent.enroll()
    digest = server.publish(make_model())
    assert agent.sync() == set()
    model = agent.installer.state.model(MODEL)
    assert (model.current, model.trial, model.blocked) == (None, None, {})
    assert server.states()[-1] == ("failed", "provider_missing")
    assert "not_in_build" in server.events[-1]["detail"]
    trials = server.states().count(("trial", ""))
    assert agent.sync() == set()
    assert server.states().count(("trial", "")) == trials, "not tried again before a restart"
    agent.close()
    mended = Agent(config)
    assert mended.sync() == {MODEL}
    assert current(mended) == digest
    mended.close()


def test_a_current_release_that_strict_refuses_stays_and_says_why(
    server: Server, config: Config, agent: Agent
) -> None:
    digest = server.publish(make_model())
    agent.sync()
    agent.close()
    strict = dataclasses.replace(config.inference, providers=("cuda",), strict=True)
    refusing = Agent(dataclasses.replace(config, inference=strict))
    refusing.load_sessions()
    assert refusing.slots[MODEL].session is None
    assert "cuda: not_in_build" in refusing.slots[MODEL].refusal
    assert current(refusing) == digest
    refusing.close()


def test_the_self_test_leaves_the_optimised_graph_for_the_process_that_runs_it(
    server: Server, agent: Agent
) -> None:
    digest = server.publish(make_model())
    agent.sync()
    (kept,) = agent.layout.optimised.glob(f"{digest}-*.onnx")
    stamp = kept.stat().st_mtime_ns
    agent.load_sessions()
    assert [path.stat().st_mtime_ns for path in agent.layout.optimised.iterdir()] == [stamp]


def classes_of(model: bytes) -> list[int]:
    with np.load(io.BytesIO(make_golden(model))) as arrays:
        return [int(row.argmax()) for row in arrays["output_logits"]]


def test_what_the_self_test_measured_goes_with_the_report(agent: Agent, server: Server) -> None:
    model = make_model()
    truth = classes_of(model)
    truth[0], truth[1] = (truth[0] + 1) % 3, -1  # one that the model gets wrong, one unknown
    server.publish(model, golden=make_golden(model, truth=truth))
    agent.sync()
    committed = server.events[-1]
    assert [event["state"] for event in server.events if "self_test" in event] == ["committed"]
    measured = committed["self_test"]
    assert (measured["rows"], measured["agreed"]) == (5, 5)
    assert (measured["labelled"], measured["right"]) == (4, 3)
    assert measured["latency_ms"] > 0
    assert measured["processor"] == read_processor_name()
    assert measured["isa"] == read_instruction_sets()


def test_a_failed_self_test_tells_how_many_rows_agree(agent: Agent, server: Server) -> None:
    model, other = make_model(seed=1), make_model(seed=3)
    agreeing = sum(map(int.__eq__, classes_of(model), classes_of(other)))
    server.publish(other, golden=make_golden(model))
    agent.sync()
    event = server.events[-1]
    assert (event["state"], event["code"]) == ("failed", "self_test_failed")
    assert event["self_test"]["agreed"] == agreeing < event["self_test"]["rows"] == 5
    assert (event["self_test"]["labelled"], event["self_test"]["right"]) == (0, 0)


def test_an_agent_of_before_the_figures_keeps_its_events(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, SpoolConfig())
    spool.events.add_event("a.1", "trial", "", "")
    spool.file.db.execute("ALTER TABLE event DROP COLUMN self_test")
    spool.close()
    spool = Spool(path, SpoolConfig())
    spool.events.add_event("a.1", "committed", "", "", {"rows": 5})
    first, second = spool.events.pending()["a.1"]
    assert "self_test" not in first and second["self_test"] == {"rows": 5}
