"""Installs the agent as a service of this machine's own systemd, and sees whether it holds.

`python -m benchmarks.agent_systemd WHEEL`, as root on a machine that may change (a virtual one):
a table, then JSON. It refuses where an agent is installed, and removes what it made. The control
plane of the repository's test suite answers; pip takes the dependencies from its own index.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.edge_agent.publisher import DEVICE, MODEL, Server, make_model

FOLDER = Path("/opt/aviary-agent-trial")
CONFIG = Path("/etc/aviary-agent-trial/agent.toml")
HOME = Path("/var/lib/aviary-agent-trial")
PRIVATE = Path("/var/lib/private") / HOME.name
UNIT = Path("/etc/systemd/system/aviary-agent.service")
STOP_SECONDS = 30
"""`TimeoutStopSec` of the unit; past it systemd kills."""


def call(*command: str | Path, is_checked: bool = True) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if is_checked and done.returncode:
        words = (done.stderr or done.stdout)[-400:]
        raise RuntimeError(f"{Path(command[0]).name} {command[1:3]}: {words}")
    return done.stdout


def agent(*arguments: str) -> str:
    return call(FOLDER / "bin" / "aviary-agent", "--config", CONFIG, *arguments)


def show(name: str) -> str:
    return call("systemctl", "show", "--property", name, "--value", UNIT.name).strip()


def running_version() -> str:
    models = json.loads(agent("status", "--json"))["models"]
    return str(models.get(MODEL, {}).get("version") or "")


def wait_for(what: str, probe: Callable[[], Any], *, seconds: float = 300.0) -> Any:
    """The first true answer of `probe`.

    Raises:
        RuntimeError: none came in time; the message ends with the service's log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(1.0)
    log = call("journalctl", "--no-pager", "--lines", "20", "--unit", UNIT.name, is_checked=False)
    raise RuntimeError(f"{what}: not within {seconds:.0f} s\n{log}")


def installs(server: Server, wheel: Path) -> str:
    """pip, one command to enrol, one to run at boot."""
    call(sys.executable, "-m", "venv", FOLDER)
    pip = [FOLDER / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    call(*pip, "--quiet", wheel)
    named = ["--server", server.url, "--device-id", DEVICE, "--home", str(HOME)]
    agent("enroll", *named, "--join-token", "join")
    with CONFIG.open("a", encoding="utf-8") as stream:
        stream.write(f'models = ["{MODEL}"]\n')
    agent("install-service")
    return f"{show('ActiveState')}, {show('UnitFileState')}"


def installs_a_release(server: Server, _: Path) -> str:
    server.publish(make_model())
    version = wait_for("the first release", running_version)
    owner = PRIVATE.stat().st_uid
    if owner == 0:
        raise RuntimeError("the service runs as root")
    return f"{version}, as user {owner}"


def comes_back_after_kill(server: Server, _: Path) -> str:
    before = show("MainPID")
    os.kill(int(before), 9)

    def is_back() -> bool:
        return show("ActiveState") == "active" and show("MainPID") not in (before, "0")

    wait_for("a restart", is_back)
    return f"{running_version()}, {show('NRestarts')} restarts"


def stops_in_time(server: Server, _: Path) -> str:
    started = time.monotonic()
    call("systemctl", "stop", UNIT.name)
    took, result = time.monotonic() - started, show("Result")
    if result != "success":
        raise RuntimeError(f"expected to end by itself, got {result} after {took:.1f} s")
    return f"{took:.1f} s of {STOP_SECONDS}"


def starts_after_root_commands(server: Server, _: Path) -> str:
    """Whatever root does to the home while the service is down, it starts again."""
    agent("sync")
    agent("pin", "--model", MODEL)
    agent("unpin", "--model", MODEL)
    (PRIVATE / "state.json").touch()
    os.chown(PRIVATE / "state.json", 0, 0)
    call("systemctl", "start", UNIT.name)
    wait_for("a start", lambda: show("ActiveState") == "active" and show("MainPID") != "0")
    time.sleep(5)
    if show("ActiveState") != "active":
        raise RuntimeError("it did not stay")
    return running_version()


def has_nothing_to_complain_of(server: Server, _: Path) -> str:
    return f"{len(agent('doctor').splitlines())} checks"


def is_fenced(server: Server, _: Path) -> str:
    lines = call("systemd-analyze", "security", "--no-pager", UNIT.name, is_checked=False)
    return lines.strip().splitlines()[-1].split(":", 1)[-1].strip()


STEPS = (
    installs,
    installs_a_release,
    comes_back_after_kill,
    stops_in_time,
    starts_after_root_commands,
    has_nothing_to_complain_of,
    is_fenced,
)


def remove() -> None:
    call("systemctl", "disable", "--now", UNIT.name, is_checked=False)
    UNIT.unlink(missing_ok=True)
    call("systemctl", "daemon-reload", is_checked=False)
    for folder in (FOLDER, CONFIG.parent, PRIVATE):
        shutil.rmtree(folder, ignore_errors=True)
    if HOME.is_symlink():
        HOME.unlink()
    else:
        shutil.rmtree(HOME, ignore_errors=True)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    wheel = Path(sys.argv[1]).resolve()
    if os.geteuid() != 0 or not Path("/run/systemd/system").exists():
        print("needs root, and systemd as process 1", file=sys.stderr)
        return 2
    taken = [path for path in (UNIT, FOLDER, CONFIG.parent, HOME, PRIVATE) if path.exists()]
    if taken:
        print(f"an agent is here already: {', '.join(map(str, taken))}", file=sys.stderr)
        return 2
    server, results = Server(), {}
    try:
        for step in STEPS:
            try:
                print(f"{step.__name__:28} {step(server, wheel)}", flush=True)
                results[step.__name__] = True
            except RuntimeError as error:
                print(f"{step.__name__:28} FAIL {error}", flush=True)
                results[step.__name__] = False
                break
    finally:
        remove()
        server.close()
    print(json.dumps(results))
    return 0 if len(results) == len(STEPS) and all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
