"""The agent inside another program, and what an agent without a model does not load."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import Runtime
from edge_agent.config import Config, parse_config
from edge_agent.exceptions import ConfigurationError, InputError, LockedError, NoModelError
from servers.kept import Kept, run
from servers.patience import QUIET_SECONDS, wait_for
from tests.edge_agent.publisher import MODEL, Server, make_model

REPOSITORY = Path(__file__).resolve().parents[2]
ROW = np.ones((1, 4), dtype=np.float32)


def test_it_serves_records_follows_the_server_and_ends_in_order(
    server: Server, config: Config
) -> None:
    first = server.publish(make_model())
    with Runtime(config) as runtime:
        assert runtime.wait_for_model(timeout_s=QUIET_SECONDS)
        answer = runtime.infer(ROW)
        assert (answer.manifest.digest, answer.label) == (first, answer.result.top_k[0][1])
        second = server.publish(make_model(seed=1), counter=2, sequence=2, version="1.1.0")
        wait_for(lambda: runtime.infer(ROW).manifest.digest == second)
        status = runtime.status()
        assert status["models"][MODEL]["manifest_sha256"] == second
        assert status["providers"]["active"][MODEL]["active"] == ["cpu"]
        with pytest.raises(LockedError):
            Runtime(config)
    records = [row for batch in server.batches.values() for row in batch]
    assert {row["model_version"] for row in records} == {first, second}
    # The home is free again, and what was committed serves at once, without the server.
    server.close()
    with Runtime(config) as runtime:
        assert runtime.infer(ROW).manifest.digest == second


def test_the_control_plane_and_status_hear_of_a_fallback_and_of_a_refusal(
    server: Server, config: Config
) -> None:
    server.publish(make_model())
    preferred = dataclasses.replace(config.inference, providers=("cuda", "cpu"))
    with Runtime(dataclasses.replace(config, inference=preferred)) as runtime:
        assert runtime.wait_for_model(timeout_s=QUIET_SECONDS)
        wait_for(lambda: server.telemetry and MODEL in server.telemetry[-1]["providers"])
        row = server.telemetry[-1]["providers"][MODEL]
        assert (row["requested"], row["active"]) == (["cuda", "cpu"], ["cpu"])
        assert [fallback["kind"] for fallback in row["fallbacks"]] == ["not_in_build"]
        assert runtime.status()["providers"]["active"][MODEL] == row
    server.telemetry.clear()
    strict = dataclasses.replace(preferred, strict=True)
    with Runtime(dataclasses.replace(config, inference=strict)) as runtime:
        wait_for(lambda: server.telemetry)
        row = server.telemetry[-1]["providers"][MODEL]
        assert row["active"] == []
        assert "cuda: not_in_build" in row["refusal"]
        with pytest.raises(NoModelError, match="cuda: not_in_build"):
            runtime.infer(ROW, model=MODEL)


def test_before_the_first_release_it_says_so(server: Server, config: Config) -> None:
    with Runtime(config) as runtime:
        assert not runtime.wait_for_model(timeout_s=0.1)
        with pytest.raises(NoModelError):
            runtime.infer(ROW)


def test_an_endpoint_that_cannot_listen_ends_the_start_and_frees_the_home(
    server: Server, config: Config, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "absent" / "edge.sock")
    serve = dataclasses.replace(config.serve, enabled=True, unix_socket=nowhere)
    with pytest.raises(ConfigurationError, match="cannot listen"):
        Runtime(dataclasses.replace(config, serve=serve))
    Runtime(config).close()


def test_without_a_model_neither_numpy_nor_the_runtime_is_loaded(
    server: Server, config: Config, tmp_path: Path
) -> None:
    """What keeps the core small: asked of the running process's own memory map."""
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\ndevice_id = "{config.device_id}"\nserver_url = "{server.url}"\n'
        f'home = "home"\nmodels = ["{MODEL}"]\njoin_token = "join"\n'
        "[serve]\nenabled = true\nport = 0\n"
    )
    base = [sys.executable, "-m", "edge_agent", "--config", str(path)]
    assert run([*base, "enroll"], cwd=REPOSITORY).returncode == 0
    process = Kept([*base, "run"], cwd=REPOSITORY)
    try:
        # Polled, uploaded nothing, told its resources: everything but a model has been at work.
        wait_for(lambda: server.telemetry)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "sqlite" in maps, "the map is not the agent's"
        assert "numpy" not in maps
        assert "onnxruntime" not in maps
        server.publish(make_model())
        wait_for(lambda: server.states().count(("committed", "")) == 1)
        wait_for(lambda: "onnxruntime" in Path(f"/proc/{process.pid}/maps").read_text())
    finally:
        process.terminate()
        process.wait()


def test_each_source_feeds_its_own_model(server: Server, config: Config, tmp_path: Path) -> None:
    base = {"device_id": "d", "server_url": "http://s", "home": "h"}
    document: dict[str, Any] = {
        "agent": base,
        "source": {"path": "a.npz", "model": "first"},
        "sources": [{"path": "b.npz", "model": "second", "rate_per_s": 2}],
    }
    parsed = parse_config(document, base=tmp_path)
    assert [(Path(s.path).name, s.model) for s in parsed.all_sources()] == [
        ("a.npz", "first"),
        ("b.npz", "second"),
    ]
    for name, value in (("one", 1.0), ("two", 2.0)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((4, 4), value, dtype=np.float32))
    server.publish(make_model())
    sources = tuple(
        dataclasses.replace(config.source, path=str(tmp_path / f"{name}.npz"), model=model)
        for name, model in (("one", MODEL), ("two", "absent"))
    )
    with Runtime(dataclasses.replace(config, sources=sources)) as runtime:
        assert runtime.wait_for_model(timeout_s=QUIET_SECONDS)
        wait_for(lambda: len([r for batch in list(server.batches.values()) for r in batch]) > 10)
    features = {tuple(row["features"]) for batch in server.batches.values() for row in batch}
    assert features == {(1.0, 0.0)}, "the source of a model that does not run feeds nobody else's"


@pytest.mark.parametrize(
    "over",
    [{"sources": [{"model": "x"}]}, {"sources": {"path": "x"}}, {"source": {"rate_per_s": 0.0}}],
)
def test_a_source_that_cannot_be_is_refused(over: dict[str, Any], tmp_path: Path) -> None:
    agent = {"device_id": "d", "server_url": "http://s", "home": "h"}
    with pytest.raises(ConfigurationError, match="source"):
        parse_config({"agent": agent, **over}, base=tmp_path)


def test_the_python_api_names_what_is_wrong_with_an_input(server: Server, config: Config) -> None:
    server.publish(make_model())
    with Runtime(config) as runtime:
        assert runtime.wait_for_model(timeout_s=QUIET_SECONDS)
        with pytest.raises(InputError, match=r"expected shape \['any', 4\], got \[1, 3\]"):
            runtime.infer(ROW[:, :3])
