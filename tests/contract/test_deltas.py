"""A release that reaches a device as a patch, made by the real server for the real agent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from demo.agents import Agent, DeviceSpec
from demo.plans import FIRST, MODEL
from demo.stack import REPOSITORY
from tests.contract.proxy import Proxy, running_proxy
from tests.contract.test_agent_against_server import (
    make_join_token,
    poll,
    wait_until,
)
from tests.live import LiveServer, running_server

BASE = REPOSITORY / "demo" / "data" / f"digits-cnn-{FIRST}.onnx"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with pytest.MonkeyPatch.context() as patch:
        # Files and not S3: its signed addresses would lead past the proxy.
        for name in ("S3_ENDPOINT_URL", "AVIARY_S3_BUCKET"):
            patch.delenv(name, raising=False)
        with running_server(tmp_path_factory.mktemp("deltas"), "deltas") as server:
            server.story.publish_first_version()
            yield server


@pytest.fixture
def proxy(live: LiveServer) -> Iterator[Proxy]:
    with running_proxy(live.stack.url) as proxy:
        yield proxy


def make_successor(path: Path, seed: int) -> Path:
    """The demonstration's first model with another head: its last tensor, moved a little."""
    model = onnx.load(BASE)
    tensor = min(model.graph.initializer, key=lambda row: len(row.raw_data))
    values = numpy_helper.to_array(tensor)
    noise = np.random.default_rng(seed).normal(0, 1e-3, values.shape)
    tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(values.dtype), tensor.name))
    onnx.save(model, path)
    return path


def publish(live: LiveServer, path: Path, version: str) -> None:
    live.api.upload(f"models/{MODEL}/versions/", path, {"version": version})
    row = f"models/{MODEL}/versions/{version}/"
    wait_until(lambda: live.api.get(row)["state"] == "ready")
    live.api.post(f"{row}transition/", {"to": "approved", "reason": "a test"})


def wait_for_offer(live: LiveServer, agent: Agent) -> dict[str, Any]:
    """The answer the agent will get, once the worker has made the delta for it."""
    token = json.loads((agent.home / "state" / "credentials.json").read_text())["token"]
    running = agent.status()["models"][MODEL]["manifest_sha256"]

    def ask() -> Any:
        answer = poll(live, token, **{"X-Running-Digest": running}).json()
        return answer if answer["delta"] else None

    return dict(wait_until(ask))


def is_report(path: str, body: bytes) -> bool:
    return path.endswith(("/events", "/telemetry"))


def test_a_successor_arrives_as_a_patch_and_a_damaged_patch_as_a_whole_file(
    live: LiveServer, proxy: Proxy, tmp_path: Path
) -> None:
    body = {"name": "deltas", "model": MODEL, "selector": {}, "stable_version": FIRST}
    deployment = live.api.post("deployments/", body)
    agent = Agent(DeviceSpec("deltas-001", "lab", 1), tmp_path)
    agent.prepare(proxy.url, is_disturbed=False)
    agent.enroll(make_join_token(live))
    # What it runs is told by its poll; a report of that may come late or never.
    proxy.stumbles = is_report
    agent.start()
    for version, is_damaged in (("1.0.1", False), ("1.0.2", True)):
        try:
            before = FIRST if not is_damaged else "1.0.1"
            wait_until(lambda before=before: agent.running_version(MODEL) == before)
        finally:
            agent.stop()
        publish(live, make_successor(tmp_path / f"{version}.onnx", seed=int(version[-1])), version)
        live.api.patch(
            f"deployments/{deployment['id']}/",
            {
                "stable_version": version,
                "is_at_once": True,
                "reason": "the next step",
                "confirmed_devices": 10**6,
            },
        )
        answer = wait_for_offer(live, agent)
        delta = answer["delta"]
        assert delta["size_bytes"] < answer["size_bytes"] / 4
        patch, whole = f"/blobs/{delta['sha256']}", f"/blobs/{answer['sha256']}"
        if is_damaged:
            proxy.damaged.add(patch)
        agent.start()
        try:
            wait_until(lambda version=version: agent.running_version(MODEL) == version)
        finally:
            if is_damaged:
                agent.stop()
        told = (agent.home / "agent.log").read_text(encoding="utf-8")[-3000:]
        assert proxy.body_bytes[patch] == delta["size_bytes"] * (2 if is_damaged else 1), told
        assert proxy.body_bytes[whole] == (answer["size_bytes"] if is_damaged else 0), told
