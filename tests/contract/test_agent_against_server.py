"""The real agent against the real server, both as processes, over HTTP alone."""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from demo.agents import Agent, DeviceSpec
from demo.client import ApiError
from demo.inputs import DATA, write_inputs
from demo.plans import FIRST, MODEL
from edge_agent.sandbox.processor import read_packaged_guest
from servers.patience import wait_for
from tests.live import LiveServer


def wait_until(probe: Callable[[], Any], progress: Callable[[], object] | None = None) -> Any:
    return wait_for(probe, progress=progress, interval_seconds=0.3)


def make_join_token(live: LiveServer, **over: Any) -> str:
    expires = datetime.now(UTC) + timedelta(hours=1)
    body = {"name": "contract", "is_auto_accept": True, "max_uses": 1}
    row = live.api.post("join-tokens/", {**body, "expires_at": expires.isoformat(), **over})
    return str(row["token"])


def make_agent(live: LiveServer, home: Path, device_id: str) -> Agent:
    agent = Agent(DeviceSpec(device_id, "lab", 1), home)
    agent.prepare(live.stack.url, is_disturbed=False)
    return agent


def enroll_by_hand(live: LiveServer, device_id: str) -> str:
    """The token of a device that is only spoken for here."""
    body = {
        "device_id": device_id,
        "join_token": make_join_token(live),
        "attributes": {"site": "lab"},
        "capabilities": {"arch": "x86_64", "providers": ["cpu"], "memory_mb": 512,
                         "agent_version": "0.1.0", "runtime_version": "1.32.0", "features": []},
    }  # fmt: skip
    answer = urllib3.request("POST", f"{live.stack.url}/api/devices/enroll", json=body)
    assert answer.status == 201, answer.data
    return str(answer.json()["token"])


def poll(live: LiveServer, token: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request(
        "GET",
        f"{live.stack.url}/api/models/latest?model={MODEL}",
        headers={"Authorization": f"Bearer {token}", **headers},
    )


@pytest.fixture(scope="module")
def deployment(live: LiveServer) -> dict[str, Any]:
    body = {"name": "contract", "model": MODEL, "selector": {}, "stable_version": FIRST}
    return dict(live.api.post("deployments/", body))


def test_an_agent_enrols_installs_classifies_and_its_records_arrive(
    live: LiveServer, deployment: dict[str, Any], tmp_path: Path
) -> None:
    agent = make_agent(live, tmp_path, "contract-001")
    agent.enroll(make_join_token(live))
    agent.start()
    try:
        wait_until(lambda: agent.running_version(MODEL) == FIRST)
        row = wait_until(lambda: committed_row(live, "contract-001"))
        assert row["manifest_sha256"] == agent.status()["models"][MODEL]["manifest_sha256"]
        measured = row["self_test"]
        assert (measured["agreed"], measured["labelled"]) == (measured["rows"], measured["rows"])
        results = live.api.list(f"models/{MODEL}/versions/{FIRST}/device-results/")
        assert sum(result["devices"] for result in results) >= 1
        assert {result["verdict"] for result in results} == {""}
        records = wait_until(lambda: sum(w["n"] for w in live.api.list(f"models/{MODEL}/windows/")))
        assert records > 0
    finally:
        agent.stop()


def committed_row(live: LiveServer, device_id: str) -> dict[str, Any] | None:
    rows = live.api.list("installations/")
    mine = [row for row in rows if device_id in json.dumps(row["device"])]
    return next((row for row in mine if row["state"] == "committed"), None)


def test_a_join_token_serves_no_more_devices_than_it_says(live: LiveServer, tmp_path: Path) -> None:
    token = make_join_token(live)
    make_agent(live, tmp_path, "contract-002").enroll(token)
    with pytest.raises(RuntimeError):
        make_agent(live, tmp_path, "contract-003").enroll(token)


def test_the_assignment_is_what_the_protocol_says(
    live: LiveServer, deployment: dict[str, Any]
) -> None:
    answer = poll(live, enroll_by_hand(live, "contract-004"))
    assert answer.status == 200
    body = answer.json()
    assert (body["model_id"], body["version"]) == (MODEL, FIRST)
    manifest = base64.b64decode(body["manifest"]["payload"])
    assignment = json.loads(base64.b64decode(body["assignment"]["payload"]))
    assert assignment["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert assignment["device_id"] == "contract-004"
    content = urllib3.request("GET", body["download_url"]).data
    assert hashlib.sha256(content).hexdigest() == body["sha256"]
    assert len(content) == body["size_bytes"]


def test_an_unchanged_assignment_is_304_and_a_download_can_be_resumed(
    live: LiveServer, deployment: dict[str, Any]
) -> None:
    token = enroll_by_hand(live, "contract-005")
    first = poll(live, token)
    assert poll(live, token, **{"If-None-Match": first.headers["ETag"]}).status == 304
    url = first.json()["download_url"]
    whole = urllib3.request("GET", url).data
    part = urllib3.request("GET", url, headers={"Range": "bytes=1000-1999"})
    assert part.status == 206
    assert part.data == whole[1000:2000]


@pytest.mark.parametrize("token", ["", "nonsense", "Token"])
def test_a_stranger_gets_401_in_the_one_error_shape(live: LiveServer, token: str) -> None:
    answer = poll(live, token)
    assert answer.status == 401
    assert {"code", "message", "details"} <= set(answer.json())


def test_speaking_for_another_device_is_refused(live: LiveServer) -> None:
    token = enroll_by_hand(live, "contract-006")
    answer = urllib3.request(
        "GET",
        f"{live.stack.url}/api/models/latest?model={MODEL}&device_id=contract-004",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status == 403


def test_a_batch_sent_twice_is_counted_once(live: LiveServer, deployment: dict[str, Any]) -> None:
    token = enroll_by_hand(live, "contract-007")
    record = {"timestamp": time.time(), "latency_ms": 1.5, "model_version": FIRST,
              "confidence": 0.9, "class_id": 3, "model": MODEL}  # fmt: skip
    batch = {"device_id": "contract-007", "batch_id": "b-1", "records": [record] * 3}
    headers = {"Authorization": f"Bearer {token}"}
    answers = [
        urllib3.request("POST", f"{live.stack.url}/api/ingest", json=batch, headers=headers)
        for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [200, 200], answers[0].data
    assert answers[0].json()["accepted"] == 3
    assert answers[1].json()["accepted"] + answers[1].json()["duplicates"] >= 3


def test_inputs_that_a_device_met_become_a_calibration_set(
    live: LiveServer, deployment: dict[str, Any], tmp_path: Path
) -> None:
    agent = make_agent(live, tmp_path, "contract-008")
    generator = np.random.default_rng(5)
    write_inputs(agent.inputs_path, generator.random((1500, 1, 8, 8), dtype=np.float32))
    fast = agent.config_path.read_text().replace("rate_per_s = 12.0", "rate_per_s = 400")
    sampling = "[sampling]\nenabled = true\nrate = 1.0\ninterval_s = 0.5\n"
    agent.config_path.write_text(f"{fast}\n{sampling}")
    agent.enroll(make_join_token(live))
    live.api.post("devices/contract-008/allow-sampling/", {"reason": "our own camera"})
    agent.start()
    order = {"model": MODEL, "name": "met-by-the-fleet", "rows": 1000}

    def order_set() -> Any:
        """An order fails while too few inputs have arrived; its name is free again then."""
        try:
            build = live.api.post("calibration-builds/", order)
        except ApiError as error:
            assert error.status in (400, 409), error
            return None
        path = f"calibration-builds/{build['id']}/"
        ended = wait_until(lambda: ends(live.api.get(path)))
        return ended if ended["state"] == "done" else None

    def ends(build: dict[str, Any]) -> dict[str, Any] | None:
        return build if build["state"] in ("done", "failed") else None

    try:
        build = wait_until(order_set)
    finally:
        agent.stop()
    rows = live.api.list(f"models/{MODEL}/datasets/")
    made = next(row for row in rows if row["id"] == build["dataset"])
    assert (made["name"], made["kind"], made["rows"]) == ("met-by-the-fleet", "calibration", 1000)
    assert made["provenance"]["devices"] == 1


def upload_with_processor(live: LiveServer, model: str, version: str) -> dict[str, Any]:
    """The approved version: a digit classifier and the module that prepares raw images for it."""
    labels = [str(digit) for digit in range(10)]
    live.api.post(
        "models/", {"slug": model, "title": model, "task": "classification", "labels": labels}
    )
    files = [
        ("files", ("model.onnx", (DATA / "digits-cnn-1.1.0.onnx").read_bytes())),
        ("files", ("classify.wasm", read_packaged_guest())),
    ]
    path = f"models/{model}/versions/"
    metadata = json.dumps({"preprocessing": {"mean": [0.0], "std": [1.0]}})
    fields = [("version", version), ("metadata", metadata), *files]
    live.api._call("POST", path, fields=fields)  # type: ignore[arg-type]
    row = wait_until(lambda: row_when_ready(live, f"{path}{version}/"))
    assert row["state"] == "ready", row["rejection_reason"]
    live.api.post(f"{path}{version}/transition/", {"to": "approved", "reason": "contract"})
    return dict(row)


def row_when_ready(live: LiveServer, path: str) -> dict[str, Any] | None:
    row = live.api.get(path)
    return None if row["state"] == "validating" else row


def test_a_processor_is_published_installed_and_classifies_raw_images(
    live: LiveServer, tmp_path: Path
) -> None:
    model = "digits-raw"
    row = upload_with_processor(live, model, "1.0.0")
    assert "processor" in {file["role"] for file in row["variants"][0]["files"]}
    live.api.post(
        "deployments/",
        {
            "name": "raw",
            "model": model,
            "selector": {"site": ["raw"]},
            "stable_version": "1.0.0",
        },
    )
    agent = Agent(DeviceSpec("contract-raw", "raw", 1), tmp_path)
    agent.prepare(live.stack.url, is_disturbed=False)
    agent.enroll(make_join_token(live))
    synced = agent._call("sync", "--once")
    assert synced.returncode == 0, synced.stderr
    assert agent.running_version(model) == "1.0.0", synced.stderr
    with np.load(DATA / "eval.npz") as archive:
        tensors = archive["x"][:50]
    raw = (tensors.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    answers = {}
    for name, rows in (("raw", raw), ("prepared", raw.transpose(0, 3, 1, 2) / np.float32(255))):
        np.save(tmp_path / f"{name}.npy", rows)
        path = str(tmp_path / f"{name}.npy")
        done = agent._call("infer", path, "--model", model, "--limit", "50")
        assert done.returncode == 0, done.stderr
        answers[name] = [json.loads(line)["top_k"] for line in done.stdout.splitlines()]
    assert len(answers["raw"]) == 50
    for in_sandbox, in_python in zip(answers["raw"], answers["prepared"], strict=True):
        assert [hit["label"] for hit in in_sandbox] == [hit["label"] for hit in in_python]
        assert [hit["confidence"] for hit in in_sandbox] == pytest.approx(
            [hit["confidence"] for hit in in_python], abs=1e-5
        )
