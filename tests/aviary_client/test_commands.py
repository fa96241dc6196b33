"""Every command against a live server; at the end, what it called is in the OpenAPI document."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import urllib3

import aviary_client
from aviary_client import Client, rows
from aviary_client.cli import main
from aviary_client.errors import Exit, TransferError
from aviary_client.transport import Transport
from aviary_client.uploads import upload_file
from edge_agent.packaging.build_wheel import build_wheel
from servers.patience import wait_for
from tests.aviary_client.conftest import Recorder
from tests.aviary_client.pipelines import github_jobs, gitlab_jobs
from tests.factories.compression import make_model, make_samples, pack_npz
from tests.factories.registry import make_npz, make_onnx
from tests.live import LiveServer

pytestmark = pytest.mark.usefixtures("recorder", "home")
MODEL = "shapes"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command: its exit status, and its JSON where it printed any."""

    def call(command: str, *more: str, expect: int = Exit.OK) -> Any:
        status = main([*command.split(), *more, "--json"])
        said = capsys.readouterr()
        assert status == expect, said.err
        text = said.err if expect else said.out
        return json.loads(text) if text.strip() else None

    return call


@pytest.fixture(scope="module")
def versions(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A model with two approved versions and an evaluation set."""
    folder = tmp_path_factory.mktemp("versions")
    client = Client(live.stack.url, live.stack.token)
    client.create_model(MODEL, labels=["a", "b", "c"])
    (folder / "eval.npz").write_bytes(make_npz())
    dataset = client.add_dataset(MODEL, "eval", folder / "eval.npz")
    for number, scale in (("1.0.0", 1.0), ("1.1.0", 2.0)):
        path = folder / f"{number}.onnx"
        path.write_bytes(make_onnx(scale=scale))
        client.push(MODEL, number, {"model.onnx": path}, dataset=dataset["id"])
        client.wait_version(MODEL, number, interval_seconds=0.2)
        client.move_version(MODEL, number, "approved")
    return client


def test_logging_in_keeps_the_token_and_out_forgets_it(
    run: Any, live: LiveServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AVIARY_TOKEN")
    run("whoami", expect=Exit.NOT_ALLOWED)
    (home / "token").write_text("wrong\n")
    refused = run("login --token-file token", expect=Exit.NOT_ALLOWED)
    assert refused["message"] and not (home / "credentials.json").exists()
    (home / "token").write_text(live.stack.token + "\n")
    assert run("login --token-file token")["user"] == "admin"
    monkeypatch.delenv("AVIARY_SERVER")
    assert run("whoami")["lists"]["models"] == f"{live.stack.url}/api/v1/models/"
    assert run("logout")["was_logged_in"] is True
    run("whoami", expect=Exit.NOT_ALLOWED)


def test_a_pipeline_pushes_waits_and_approves(run: Any, home: Path) -> None:
    (home / "net").mkdir()
    (home / "net" / "model.onnx").write_bytes(make_onnx())
    (home / "eval.npz").write_bytes(make_npz())
    run("push lamps 1.0.0 net", expect=Exit.NOT_FOUND)
    first = run("push lamps 1.0.0 net --create --labels on,off,broken --notes first --tag ci")
    assert first["state"] == "validating"
    assert run("wait lamps 1.0.0 --interval 0.2")["state"] == "ready"
    assert run("dataset lamps eval eval.npz")["rows"] == 64
    again = run("push lamps 1.0.0 net", expect=Exit.REFUSED)
    assert again["code"] == "conflict"
    second = run("push lamps 1.1.0 net --dataset eval --wait --interval 0.2")
    assert second["state"] == "ready" and second["metrics"]["accuracy"] == 1.0
    assert run("approve lamps 1.1.0")["state"] == "approved"
    assert run("alias lamps stable 1.1.0")["version"] == "1.1.0"
    assert run("deprecate lamps 1.1.0")["state"] == "deprecated"
    run("yank lamps 1.1.0", expect=Exit.REFUSED)
    assert run("yank lamps 1.1.0", "--reason", "leaks")["state"] == "yanked"
    assert {row["slug"] for row in run("models")} >= {"lamps"}
    assert [row["version"] for row in run("versions lamps --state ready")] == ["1.0.0"]


def test_a_file_that_is_no_model_is_rejected_with_its_own_exit_status(
    run: Any, home: Path, versions: Client
) -> None:
    (home / "model.onnx").write_bytes(b"no model at all")
    said = run(f"push {MODEL} 9.0.0 model.onnx --wait --interval 0.2", expect=Exit.FAILED)
    assert said["details"] == {"state": "rejected"}
    run(f"wait {MODEL} 9.0.0", expect=Exit.FAILED)
    run(f"push {MODEL} 9.0.1 none.onnx", expect=Exit.USAGE)
    (home / "empty.onnx").write_bytes(b"")
    run(f"push {MODEL} 9.0.1 empty.onnx", expect=Exit.USAGE)


def test_an_upload_that_was_cut_off_sends_only_what_is_missing(
    live: LiveServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "large.bin"
    path.write_bytes(random.Random(3).randbytes(17 * 1024 * 1024))
    transport = Client(live.stack.url, live.stack.token).transport
    put, sent = Transport.put_bytes, []

    def put_one(self: Transport, url: str, data: bytes) -> int:
        if sent:
            raise TransferError("the line broke")
        sent.append(len(data))
        return put(self, url, data)

    with monkeypatch.context() as broken:
        broken.setattr("aviary_client.uploads.AT_ONCE", 1)
        broken.setattr("aviary_client.uploads.ATTEMPTS", 1)
        broken.setattr(Transport, "put_bytes", put_one)
        with pytest.raises(TransferError, match="the line broke"):
            upload_file(transport, path)

    def put_and_count(self: Transport, url: str, data: bytes) -> int:
        sent.append(len(data))
        return put(self, url, data)

    monkeypatch.setattr(Transport, "put_bytes", put_and_count)
    told: list[int] = []
    digest = upload_file(transport, path, lambda done, whole: told.append(100 * done // whole))
    assert sum(sent) == path.stat().st_size and len(sent) == 3
    assert told == sorted(told) and told[0] == 47 and told[-1] == 100
    assert upload_file(transport, path) == digest and len(sent) == 3


def test_files_come_down_verified_and_resumed(run: Any, home: Path, versions: Client) -> None:
    files = versions.files(MODEL, "1.0.0", "fp32")
    found = run(f"download {MODEL} 1.0.0 --to here")
    assert sorted(found) == sorted(f"here/{file['path']}" for file in files)
    assert (home / "here/model.onnx").read_bytes() == make_onnx(scale=1.0)
    # Cut off, then damaged: the first goes on, the second is fetched again.
    whole = (home / "here/model.onnx").read_bytes()
    (file,) = (file for file in files if file["path"] == "model.onnx")
    partial = home / "here" / f"model.onnx.{file['sha256'][:12]}.part"
    (home / "here/model.onnx").unlink()
    partial.write_bytes(whole[:10])
    run(f"download {MODEL} 1.0.0 --to here")
    assert (home / "here/model.onnx").read_bytes() == whole and not partial.exists()
    (home / "here/model.onnx").unlink()
    partial.write_bytes(b"x" * 10)
    wrong = run(f"download {MODEL} 1.0.0 --to here", expect=Exit.FAILED)
    assert wrong["code"] == "digest_mismatch" and not (home / "here/model.onnx").exists()
    run(f"download {MODEL} 1.0.0 --variant none", expect=Exit.NOT_FOUND)


def test_versions_are_compared(run: Any, versions: Client) -> None:
    compared = run(f"compare {MODEL} 1.0.0 1.1.0")
    assert [row["version"] for row in compared] == ["1.0.0", "1.1.0"]
    assert all(row["accuracy"] == 1.0 and row["size_bytes"] > 100 for row in compared)


def test_a_variant_is_made_and_waited_for(run: Any, home: Path, versions: Client) -> None:
    x, y = make_samples(300, seed=2)
    (home / "held-out.npz").write_bytes(pack_npz(x=x, y=y))
    (home / "model.onnx").write_bytes(make_model((4, 8, 8)).SerializeToString())
    run("push parts 1.0.0 model.onnx --create --labels 0,1,2,3 --wait --interval 0.2")
    run("dataset parts held-out held-out.npz")
    order = "compress parts 1.0.0 --preset dynamic-int8 --variant-name small"
    passed = run(f"{order} --evaluation held-out --wait --interval 0.3")
    assert (passed["state"], passed["variant_name"]) == ("passed", "small")
    assert run(f"job {passed['id']}")["result_variant"] == passed["result_variant"]
    names = {row["variant"] for row in run("compare parts 1.0.0")}
    assert names == {"fp32", "small"}
    run("compress parts 1.0.0 --evaluation held-out", expect=Exit.USAGE)
    run(f"{order}x --preset magic --evaluation held-out", expect=Exit.REFUSED)
    run(f"{order} --evaluation no", expect=Exit.NOT_FOUND)
    tiny = {
        "schema": "compress/1", "passes": [{"pass": "prepare"}], "gates": {"max_bytes": 1},
    }  # fmt: skip
    (home / "tiny.json").write_text(json.dumps(tiny))
    order = f"compress shapes 1.0.0 --recipe {home}/tiny.json --evaluation eval"
    refused = run(f"{order} --wait --interval 0.3", expect=Exit.FAILED)
    assert refused["message"].endswith("ended as failed_gate")


@pytest.fixture
def deployment(run: Any, versions: Client, request: pytest.FixtureRequest) -> str:
    """A deployment of the test's own at 1.0.0, of no device."""
    name = f"line-{abs(hash(request.node.name)) % 10**8}"
    made = run(f"deploy {name} --model {MODEL} --version 1.0.0 --selector site={name}")
    assert made["stable_version"] == "1.0.0"
    return name


def start(run: Any, deployment: str, more: str = "") -> int:
    command = f"rollout start {deployment} --version 1.1.0 --stages 50,100 --bake-seconds 86400"
    return int(run(f"{command} {more}")["id"])


@pytest.mark.parametrize(
    ("steps", "status"),
    [(["abort"], Exit.ROLLED_BACK), (["pause"], Exit.HELD)],
)
def test_a_watched_rollout_says_by_its_exit_status_how_it_ended(
    run: Any, deployment: str, versions: Client, steps: list[str], status: int
) -> None:
    rollout = start(run, deployment)
    timer = threading.Timer(
        0.3, lambda: [versions.step_rollout(rollout, step, "too warm") for step in steps]
    )
    timer.start()
    said = main(
        ["rollout", "watch", str(rollout), "--interval", "0.2", "--fail-on-pause", "--json"]
    )
    timer.join()
    assert said == status


def test_a_rollout_that_completes_is_watched_to_its_good_end(
    run: Any, deployment: str, versions: Client, capsys: Any
) -> None:
    run(f"deploy {deployment} --model {MODEL} --version 1.1.0", expect=Exit.USAGE)
    rollout = start(run, deployment)
    run(f"rollout advance {rollout} --reason bench")
    paused = run(f"rollout pause {rollout}")
    assert (paused["state"], paused["current_stage"]) == ("paused", 1)
    assert main(["rollout", "watch", str(rollout), "--timeout", "0"]) == Exit.TIMED_OUT
    capsys.readouterr()
    run(f"rollout resume {rollout}")
    assert run(f"rollout advance {rollout}")["state"] == "completed"
    assert main(["rollout", "watch", str(rollout), "--json"]) == Exit.OK
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["action"] for event in events] == [
        "create", "start", "advance", "pause", "resume", "complete",
    ]  # fmt: skip
    states = [row["state"] for row in run("rollout list --state completed")]
    assert states == ["completed"]
    now = {row["name"]: row["stable_version"] for row in run("deployments")}
    assert now[deployment] == "1.1.0"


def test_drafts_plans_and_proposals(
    run: Any, versions: Client, home: Path, deployment: str
) -> None:
    base = f"rollout start {deployment} --version 1.1.0"
    proposed = run(f"{base} --draft")
    assert proposed["state"] == "draft" and proposed["gates"] and len(proposed["stages"]) > 1
    plan = {"stages": [{"percent": 100}], "is_approval_required": True,
            "gates": [{"metric": "error_rate", "threshold": 2.0}]}  # fmt: skip
    (home / "plan.json").write_text(json.dumps(plan))
    waiting = run(f"{base} --plan plan.json --variant fp32")
    assert waiting["state"] == "awaiting_approval" and waiting["variants"] == ["fp32"]
    assert run(f"rollout approve {waiting['id']}")["state"] == "running"
    assert run(f"rollout abort {waiting['id']} --reason enough")["state"] == "aborting"
    run(f"{base} --plan plan.json --stages 5,100", expect=Exit.USAGE)
    run(f"{base} --stages a,b", expect=Exit.USAGE)
    run(f"{base} --stages 100,5", expect=Exit.REFUSED)
    run("rollout watch 999999", expect=Exit.NOT_FOUND)


def test_devices_join_by_tokens_and_are_found_by_labels(run: Any, live: LiveServer) -> None:
    made = run("join-token create bench --label site=lab --max-uses 5 --auto-accept --days 2")
    for device, line in (("cam-1", "a"), ("cam-2", "b")):
        body = {"device_id": device, "join_token": made["token"], "attributes": {"line": line}}
        answer = urllib3.request("POST", f"{live.stack.url}/api/devices/enroll", json=body)
        assert answer.status == 201, answer.data
    assert len(run("devices --label site=lab --status accepted")) == 2
    assert [row["device_id"] for row in run("devices --label site=lab --label line=b")] == ["cam-2"]
    assert run("devices --label line=c") == []
    run("devices --label line", expect=Exit.USAGE)
    listed = run("join-token list")
    assert listed[0]["uses"] == 2 and "token" not in listed[0]
    assert run(f"join-token revoke {made['id']}")["revoked_at"]


def test_incidents_are_listed_and_followed(run: Any, capsys: Any) -> None:
    assert run("incidents") == [] and run(f"incidents --model {MODEL} --all") == []
    assert main(["incidents", "--follow", "--for", "0", "--json"]) == Exit.OK
    assert capsys.readouterr().out == ""


def test_tables_and_the_program_itself(live: LiveServer, versions: Client) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "aviary_client", "versions", MODEL], capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    assert shown.returncode == 0 and lines[0].split()[:2] == ["VERSION", "STATE"], shown.stderr
    assert ["1.0.0", "approved"] in [line.split()[:2] for line in lines[1:]]


# --- what was called, and what the schema knows ---------------------------------------------


@pytest.fixture(scope="module")
def schema(live: LiveServer) -> dict[str, Any]:
    answer = urllib3.request("GET", f"{live.stack.url}/api/schema/?format=json")
    if answer.status != 200:
        headers = {"Authorization": f"Token {live.stack.token}"}
        answer = urllib3.request(
            "GET", f"{live.stack.url}/api/schema/?format=json", headers=headers
        )
    return dict(json.loads(answer.data))


def test_all_that_was_called_is_in_the_schema(recorder: Recorder, schema: dict[str, Any]) -> None:
    assert len(recorder.calls) > 40
    for call in sorted(recorder.calls, key=str):
        operation = find_operation(schema, call.method, call.path)
        known = {row["name"] for row in operation.get("parameters", []) if row["in"] == "query"}
        assert call.query <= known, (call, known)
        if call.body:
            assert call.body <= body_fields(schema, operation), call


def test_each_public_method_of_the_client_was_tried(recorder: Recorder) -> None:
    """By the addresses: one for each method that calls one of its own."""
    tried = {re.sub(r"/[0-9a-f-]{36}|/\d+", "/1", call.path) for call in recorder.calls}
    text = "\n".join(sorted(tried))
    for part in (
        "uploads/1/parts/", "uploads/1/complete/", "transition/", "/aliases/", "/files/",
        "/datasets/", "compression/jobs/1/", "deployments/1/", "rollouts/1/start/",
        "rollouts/1/approve/", "rollouts/1/advance/", "rollouts/1/pause/", "rollouts/1/resume/",
        "rollouts/1/abort/", "join-tokens/1/revoke/", "incidents/", "devices/",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize(
    ("row", "component"),
    [
        (rows.Version, "Version"), (rows.Variant, "Variant"), (rows.DataSet, "DataSet"),
        (rows.Job, "Job"), (rows.Deployment, "DeploymentChange"), (rows.Device, "Device"),
        (rows.Rollout, "RolloutDetail"), (rows.Incident, "Incident"), (rows.Upload, "Upload"),
        (rows.File, "VariantDownload"),
    ],
)  # fmt: skip
def test_the_rows_that_the_client_reads_are_those_of_the_schema(
    row: Any, component: str, schema: dict[str, Any]
) -> None:
    known = set(schema["components"]["schemas"][component]["properties"])
    assert set(row.__annotations__) <= known


def find_operation(schema: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    # The most exact address counts: one without a parameter before one with.
    for template in sorted(schema["paths"], key=lambda text: text.count("{")):
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in schema["paths"][template]:
            return dict(schema["paths"][template][method.lower()])
    raise AssertionError(f"{method} {path} is not in the schema")


def body_fields(schema: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for content in operation["requestBody"]["content"].values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        found |= set(schema["components"]["schemas"][name]["properties"])
    return found


# --- the pipelines of docs/ci ---------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's wheel, as `make client-wheel` builds it."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), Path(aviary_client.__file__).parent)


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_a_pipeline_releases_a_model_from_a_tag(
    kind: str, live: LiveServer, versions: Client, wheel: Path, home: Path
) -> None:
    tag, deployment = f"v{'2' if kind == 'github' else '3'}.0.0", "line-a"
    token, server = live.stack.token, live.stack.url
    values = {"vars.AVIARY_SERVER": server, "vars.AVIARY_CLIENT": str(wheel),
              "secrets.AVIARY_TOKEN": token, "github.ref_name": tag}  # fmt: skip
    jobs = github_jobs(values) if kind == "github" else gitlab_jobs()
    (push_in, push), (release_in, release) = jobs
    (home / "model").mkdir()
    (home / "model" / "model.onnx").write_bytes(make_onnx(scale=float(tag[1])))
    given = {
        **os.environ,
        "CI_COMMIT_TAG": tag,
        "AVIARY_SERVER": server,
        "AVIARY_TOKEN": token,
        "AVIARY_CLIENT": str(wheel),
        # Installed beside the test, with what it needs from here: nothing is fetched.
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_TARGET": str(home / "installed"),
        "PYTHONPATH": str(home / "installed"),
        "PATH": f"{home}/installed/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    run_steps(push, {**given, **push_in})
    if not list(versions.deployments(name=deployment)):
        first = versions.version("widgets", tag[1:])
        assert first["tags"] == ["ci"] and first["notes"] == tag
        versions.push("widgets", "0.0.1", {"model.onnx": home / "model" / "model.onnx"})
        versions.wait_version("widgets", "0.0.1", interval_seconds=0.2)
        versions.move_version("widgets", "0.0.1", "approved")
        versions.create_deployment(deployment, model="widgets", version="0.0.1")
    person = threading.Thread(target=advance_all, args=(versions, tag[1:]))
    person.start()
    run_steps(release, {**given, **release_in})
    person.join()
    assert versions.deployment(deployment)["stable_version"] == tag[1:]
    assert json.loads((home / "versions.json").read_text())[0]["model"] == "widgets"


def run_steps(steps: list[str], environment: dict[str, str]) -> None:
    for step in steps:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"


def advance_all(client: Client, version: str) -> None:
    """As a person who has seen enough: stage after stage, until the rollout has completed."""

    def step() -> bool:
        rows_now = [row for row in client.rollouts() if row["target_version"] == version]
        for row in rows_now:
            if row["state"] in ("running", "paused"):
                client.step_rollout(row["id"], "advance", "seen enough")
        return any(row["state"] == "completed" for row in rows_now)

    wait_for(step, "the pipeline's rollout", interval_seconds=0.2)
