"""A device finds drift and a scarce resource by itself, and a person sees it: agent to page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.agents import Agent, DeviceSpec
from demo.inputs import DATA
from demo.plans import FIRST, MODEL
from tests.contract.admin import AdminReader
from tests.contract.test_agent_against_server import (
    make_join_token,
    row_when_ready,
    wait_until,
)
from tests.live import LiveServer, running_server

DEVICE = "finds-001"
BARE = "digits-bare"
SETTINGS = {
    'path = "inputs.npz"': f'path = "inputs.npz"\nmodel = "{MODEL}"',
    "rate_per_s = 12.0": "rate_per_s = 200.0",
    "telemetry_interval_s = 5.0": "telemetry_interval_s = 1.0",
    "sample_interval_s = 2.0": "sample_interval_s = 0.3",
    "check_interval_s = 1.0": "check_interval_s = 0.3",
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("finds"), "finds") as server:
        server.story.publish_first_version()
        publish_without_baseline(server)
        for model in (MODEL, BARE):
            body = {"name": model, "model": model, "selector": {}, "stable_version": FIRST}
            server.api.post("deployments/", body)
        yield server


def publish_without_baseline(live: LiveServer) -> None:
    """A version uploaded without a data set, so that nothing says what it should meet."""
    labels = [str(digit) for digit in range(10)]
    live.api.post("models/", {"slug": BARE, "title": BARE, "task": "classification",
                              "labels": labels})  # fmt: skip
    path = f"models/{BARE}/versions/"
    content = (DATA / f"digits-cnn-{FIRST}.onnx").read_bytes()
    live.api._call("POST", path, fields=[("version", FIRST), ("metadata", "{}"),
                                         ("files", ("model.onnx", content))])  # fmt: skip
    row = wait_until(lambda: row_when_ready(live, f"{path}{FIRST}/"))
    assert row["state"] == "ready", row["rejection_reason"]
    live.api.post(f"{path}{FIRST}/transition/", {"to": "approved", "reason": "contract"})


def incidents(live: LiveServer, **query: str) -> list[dict[str, Any]]:
    words = "&".join(f"{name}={value}" for name, value in {"device": DEVICE, **query}.items())
    return live.api.list(f"device-incidents/?{words}")


def set_up_agent(live: LiveServer, home: Path) -> Agent:
    agent = Agent(DeviceSpec(DEVICE, "lab", 1), home)
    agent.prepare(live.stack.url, is_disturbed=False)
    text = agent.config_path.read_text()
    for old, new in SETTINGS.items():
        assert old in text
        text = text.replace(old, new)
    agent.config_path.write_text(text)
    agent.enroll(make_join_token(live))
    return agent


def judged(agent: Agent) -> dict[str, Any]:
    """What the device judges of its model, once it has metrics."""
    row = agent.status()["drift"].get(MODEL, {})
    return dict(row) if row.get("metrics") else {}


def test_drift_fires_on_the_device_reaches_the_page_and_resolves(
    live: LiveServer, tmp_path: Path
) -> None:
    agent = set_up_agent(live, tmp_path)
    admin = AdminReader(live)
    agent.start()
    try:
        wait_until(lambda: judged(agent).get("status") == "healthy")
        (device,) = live.api.list(f"devices/?device_id={DEVICE}")
        path = f"/admin/fleet/device/{device['id']}/change/"
        wait_until(lambda: 'fl-success">Healthy' in admin.read(path))
        page = admin.read(path)
        assert "this release ships no baseline" in page
        assert f"/admin/ingest/driftevaluation/model/{MODEL}/" in page
        assert incidents(live, kind="drift") == []
        assert live.api.list("devices/?firing=drift") == []

        agent.feed(is_disturbed=True)
        fired = wait_until(lambda: incidents(live, kind="drift", firing="true"))[0]
        assert (fired["model"], fired["is_firing"]) == (MODEL, True)
        assert fired["metric"] in judged(agent)["metrics"]
        assert fired["value"] >= fired["threshold"] > 0
        assert [row["device_id"] for row in live.api.list("devices/?firing=drift")] == [DEVICE]
        listed = admin.read("/admin/fleet/device/?firing=drift")
        assert DEVICE in listed and "Drift" in listed
        assert DEVICE not in admin.read("/admin/fleet/device/?firing=resource")
        page = admin.read(path)
        for words in ("Firing", fired["metric"], "past its threshold", f"drift of {MODEL}:"):
            assert words in page, words
        assert "1 device</a> finds by itself" in admin.read(
            f"/admin/ingest/driftevaluation/model/{MODEL}/"
        )

        agent.feed(is_disturbed=False)
        (over,) = wait_until(lambda: incidents(live, kind="drift", firing="false"))
        assert over["id"] == fired["id"], "one incident from its beginning to its end"
        assert over["worst"] >= fired["threshold"]
        wait_until(lambda: judged(agent).get("status") == "healthy")
        page = admin.read(path)
        assert "Resolved" in page and 'fl-danger">Firing' not in page
        assert live.api.list("devices/?firing=drift") == []
    finally:
        agent.stop()
    assert len(incidents(live, kind="drift")) == 1, "it neither flapped nor fired twice"
    told = [line for line in (agent.home / "agent.log").read_text().splitlines()
            if "drift_firing" in line]  # fmt: skip
    assert len(told) == 1, told


def test_a_scarce_resource_fires_goes_on_over_a_restart_and_resolves(
    live: LiveServer, tmp_path: Path
) -> None:
    device = "finds-002"
    agent = Agent(DeviceSpec(device, "lab", 2), tmp_path)
    agent.prepare(live.stack.url, is_disturbed=False)
    text = agent.config_path.read_text().replace("interval_s = 5.0", "interval_s = 1.0")
    text = text.replace("sample_interval_s = 2.0", "sample_interval_s = 0.3")
    plenty = text.replace("[drift]", "min_disk_free_mb = 1.0\n\n[drift]")
    scarce = text.replace("[drift]", "min_disk_free_mb = 1e9\n\n[drift]")
    agent.config_path.write_text(scarce)
    agent.enroll(make_join_token(live))

    def found(firing: str) -> list[dict[str, Any]]:
        return live.api.list(f"device-incidents/?device={device}&firing={firing}")

    agent.start()
    try:
        (fired,) = wait_until(lambda: found("true"))
        assert (fired["kind"], fired["metric"]) == ("resource", "disk_free_mb")
        assert fired["threshold"] == 1e9
        agent.stop()
        agent.start()
        reported = fired["reported_at"]
        (still,) = wait_until(
            lambda: [row for row in found("true") if row["reported_at"] > reported]
        )
        assert still["id"] == fired["id"]
        agent.stop()
        agent.config_path.write_text(plenty)
        agent.start()
        (over,) = wait_until(lambda: found("false"))
        assert over["id"] == fired["id"]
        page = AdminReader(live).read("/admin/fleet/deviceincident/?state=resolved")
        assert "Free disk" in page and device in page
    finally:
        agent.stop()
    (row,) = live.api.list(f"devices/?device_id={device}")
    assert row["firing"] == []
    assert json.loads((agent.home / "state" / "incidents.json").read_text())["incidents"]
