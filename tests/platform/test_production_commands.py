"""The compose file's own commands and variables, run without containers against real servers."""

import contextlib
import json
import os
import re
import shlex
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from edge_agent.packaging.build_wheel import build_wheel
from servers.kept import Kept, run
from servers.patience import QUIET_SECONDS, Patience
from servers.processes import free_port
from tests.databases import address_of, make_empty_database
from tests.platform.test_compose import ROOT, SERVICES

pytestmark = pytest.mark.skipif(
    not all(os.environ.get(name) for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL")),
    reason="needs the servers of `make test`",
)
BIN = Path(sys.executable).parent
_SECRET_VALUES = {"SECRET_KEY": "only-for-this-test-" + "x" * 40}


def environment_of(service: str, folder: Path) -> dict[str, str]:
    """The service's variables: values from this run's servers, secrets as files."""
    values = {"PATH": f"{BIN}:{os.environ['PATH']}", "AVIARY_HOME": str(folder / "home")}
    for name, text in SERVICES[service]["environment"].items():
        plain = name.removesuffix("_FILE")
        value = _SECRET_VALUES.get(plain, os.environ.get(plain, ""))
        if plain == "DATABASE_URL":
            value = make_empty_database(os.environ["DATABASE_URL"], "aviary_production")
        elif plain == "AVIARY_APP_DATABASE_URL":
            owner = urlsplit(address_of(os.environ["DATABASE_URL"], "aviary_production"))
            host = owner.netloc.rpartition("@")[2]
            value = urlunsplit(owner._replace(netloc=f"aviary_serves:only-for-this-test@{host}"))
        elif plain == "AVIARY_S3_BUCKET":
            value = "aviary-production"
        elif plain == "AVIARY_SIGNER":
            value = str(folder / "signer" / "signer.sock")
        elif not value:
            value = re.sub(r"\$\{[^:}]+:-([^}]*)\}", r"\1", str(text))
        if name.endswith("_FILE"):
            secret = folder / plain.lower()
            secret.write_text(value, encoding="utf-8")
            value = str(secret)
        values[name] = value
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("production")


@pytest.fixture(scope="module")
def signer(folder: Path) -> Iterator[None]:
    """The signing service, with the compose file's command for this user and folder."""
    places = {
        "/var/lib/aviary-keys": str(folder / "keys"),
        "/run/aviary-signer/signer.sock": str(folder / "signer" / "signer.sock"),
        "10001": str(os.getuid()),
    }
    command = [places.get(part, part) for part in SERVICES["signer"]["command"]]
    process = Kept([sys.executable, *command[1:]], cwd=ROOT)
    yield
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def environment(folder: Path, signer: None) -> dict[str, str]:
    found = environment_of("migrate", folder)
    build_wheel(folder / "agent")
    command = [
        part.replace("/srv/aviary/agent/", f"{folder}/agent/")
        for part in SERVICES["migrate"]["command"]
    ]
    done = run(command, cwd=ROOT, env=found)
    assert done.returncode == 0, done.stderr[-2000:]
    # What serves from here on is the role that owns no table.
    return {**found, "DATABASE_URL_FILE": found["AVIARY_APP_DATABASE_URL_FILE"]}


@pytest.fixture
def started(environment: dict[str, str], folder: Path) -> Iterator[Any]:
    processes: list[Kept] = []

    def start(command: list[str]) -> Kept:
        with (folder / "log").open("ab") as log:
            processes.append(Kept(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def wait_for(probe: Any, process: Kept) -> Any:
    """What `probe` finds; waited for as long as the process works."""
    patience = Patience(" ".join(process.args))
    while True:
        assert process.poll() is None, f"ended with {process.returncode}"
        with contextlib.suppress(OSError):
            if found := probe():
                return found
        patience.look(process.work_ticks())
        time.sleep(0.3)


def test_the_image_s_web_command_serves_and_reports_its_stores_ready(started, folder):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    command = json.loads(re.findall(r"^CMD (\[.*\])$", text, flags=re.MULTILINE)[-1])
    command[command.index("--host") + 1] = "127.0.0.1"
    port = str(free_port())
    command[command.index("--port") + 1] = port
    process = started(command)

    def read() -> Any:
        url = f"http://127.0.0.1:{port}/readyz"
        with urllib.request.urlopen(url, timeout=QUIET_SECONDS) as answer:
            return json.load(answer)

    body = wait_for(read, process)
    assert body["status"] == "ok"
    assert body["checks"] == {
        "database": True, "database_writable": True, "cache": True, "objects": True,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["worker", "compression"])
def test_a_worker_answers_the_ping_of_its_health_check(name, started, environment):
    process = started([*SERVICES[name]["command"], "-n", f"celery@{name}-test"])
    form, line = SERVICES[name]["healthcheck"]["test"]
    assert form == "CMD-SHELL"
    ping = shlex.split(line.replace("$$HOSTNAME", f"{name}-test"))

    def is_answered() -> bool:
        return run(ping, cwd=ROOT, env=environment).returncode == 0

    assert wait_for(is_answered, process), shlex.join(ping)


def test_beat_starts_and_leaves_the_file_its_health_check_reads(started, folder):
    command = [part.replace("/tmp/", f"{folder}/") for part in SERVICES["beat"]["command"]]
    process = started(command)
    pid = wait_for(lambda: (folder / "beat.pid").read_text(encoding="utf-8").strip(), process)
    assert int(pid) == process.pid
