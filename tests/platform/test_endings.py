"""Nothing that a suite, a demonstration or a server started outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from servers.keeper import descendants
from servers.kept import Kept
from servers.patience import wait_for

ROOT = Path(__file__).resolve().parents[2]
MARKER = "AVIARY_TEST_MARKER"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

#: Starts children of every stubborn kind, then says so and waits.
STUBBORN = """
import os, signal, subprocess, sys, time
def sleep_on():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(900)
if os.fork() == 0:
    sleep_on()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        sleep_on()
    os._exit(0)
subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 901 & sleep 902"], start_new_session=True)
print("started", flush=True)
time.sleep(900)
"""
#: A process that keeps `STUBBORN` and then ends in the way named by its argument.
OWNER = """
import os, signal, subprocess, sys, time
from servers.keeper import descendants
from servers.kept import Kept
kept = Kept([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
assert kept.stdout.readline() == b"started\\n"
print("started", flush=True)
how = sys.argv[2]
if how == "raise":
    raise RuntimeError(how)
if how == "wait":
    time.sleep(900)
if how == "fork":  # the pipe to the keeper stays open in this child
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(4)
"""


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def living(marker: str) -> list[str]:
    """The command lines of the processes that inherited the marker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if f"{MARKER}={marker}".encode() in environment_of(int(entry.name)):
            try:
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(f"{entry.name} {line.decode()[:160]}")
            except OSError:
                continue
    return found


def start(marker: str, *command: str, **environment: str) -> "subprocess.Popen[str]":
    """The command as a shell would start it, and not below a keeper of this test's."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, MARKER: marker, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear_signals,
    )


def hear_signals() -> None:
    """What `nohup` and a shell's `&` have a command ignore, its children ignore too."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """The line that holds `text`."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return line
    pytest.fail(f"it ended without {text!r}: {''.join(seen)}")


def assert_all_gone(marker: str) -> None:
    wait_for(lambda: not living(marker), "their end", progress=lambda: living(marker))


@pytest.fixture
def marker() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("how", ["return", "raise", "fork"])
def test_what_is_kept_ends_with_an_owner_that_ends_by_itself(marker: str, how: str) -> None:
    owner = start(marker, sys.executable, "-c", OWNER, STUBBORN, how)
    read_until(owner, "started")
    owner.wait()
    assert_all_gone(marker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_what_is_kept_ends_with_an_owner_that_is_ended(marker: str, number: int) -> None:
    owner = start(marker, sys.executable, "-c", OWNER, STUBBORN, "wait")
    read_until(owner, "started")
    wait_for(lambda: len(living(marker)) >= 6, "all that it starts")
    owner.send_signal(number)
    owner.wait()
    assert_all_gone(marker)


def test_what_a_command_leaves_behind_ends_when_the_command_has_ended(marker: str) -> None:
    code = STUBBORN.rsplit("time.sleep", 1)[0] + "raise SystemExit(3)"
    kept = Kept([sys.executable, "-c", code], env={**os.environ, MARKER: marker})
    assert kept.wait() == 3
    assert living(marker) == []


def test_a_child_without_the_environment_of_its_parents_ends_too(tmp_path: Path) -> None:
    code = f"echo $$ > {tmp_path}/pid; exec sleep 903"
    kept = Kept(["sh", "-c", f"setsid env -i sh -c '{code}' & wait"])
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    kept.terminate()
    kept.wait()
    assert not Path(f"/proc/{pid}").exists()


def test_a_kept_command_says_how_it_ended_and_takes_signals() -> None:
    assert Kept(["sh", "-c", "exit 7"]).wait() == 7
    sleeping = Kept(["sleep", "904"])
    assert sleeping.poll() is None
    sleeping.kill()
    assert sleeping.wait() == -signal.SIGKILL
    sleeping.terminate()
    with pytest.raises(FileNotFoundError):
        Kept(["/no/such/program"])


def test_a_kept_command_is_told_of_its_keeper_s_death(marker: str) -> None:
    kept = Kept(["sleep", "905"], env={**os.environ, MARKER: marker})
    os.kill(parent_of(kept.pid), signal.SIGKILL)
    kept.wait()
    assert_all_gone(marker)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.parametrize("victim", ["launcher", "command"])
def test_no_server_and_no_folder_outlives_a_launcher_or_command_that_is_killed(
    marker: str, victim: str
) -> None:
    code = "import os, time; print('folder', os.environ['AVIARY_HOME'], os.getpid(), flush=True); "
    names = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "AVIARY_HOME")
    unset = [word for name in names for word in ("-u", name)]
    launcher = start(
        marker, "env", *unset, sys.executable, "-m", "servers", "--",
        sys.executable, "-c", code + "time.sleep(906)",
    )  # fmt: skip
    _, home, pid = read_until(launcher, "folder").split()
    assert any("postgres" in line for line in living(marker))
    os.kill(launcher.pid if victim == "launcher" else int(pid), signal.SIGKILL)
    launcher.wait()
    assert_all_gone(marker)
    wait_for(lambda: not Path(home).exists(), "the folder's removal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_benchmark_that_is_ended_leaves_nothing(marker: str, number: int) -> None:
    process = start(marker, sys.executable, "-m", "servers.kept", sys.executable, "-c", STUBBORN)
    read_until(process, "started")
    process.send_signal(number)
    process.wait()
    assert_all_gone(marker)


def test_the_servers_end_with_the_make_that_started_them(marker: str, tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    command = f"{sys.executable} -m servers --with-parent -- {tmp_path}/wait"
    (tmp_path / "wait").write_text("#!/bin/sh\necho started\nsleep 907\n")
    (tmp_path / "wait").chmod(0o755)
    makefile.write_text(f"all:\n\t{command}\n")
    make = start(
        marker, "make", "-f", str(makefile),
        DATABASE_URL="postgres://elsewhere/db", S3_ENDPOINT_URL="http://127.0.0.1:1",
    )  # fmt: skip
    read_until(make, "started")
    make.kill()
    make.wait()
    assert_all_gone(marker)


def test_nothing_of_a_stack_outlives_the_process_that_is_killed_beside_it(
    marker: str, tmp_path: Path
) -> None:
    """Web server and its worker process, Celery and its beat, and Valkey."""
    code = (
        "import sys, time; from pathlib import Path; from demo.stack import Stack; "
        "from servers.processes import free_port; "
        "stack = Stack(Path(sys.argv[1]), port=free_port()); stack.start(); "
        "print('started', flush=True); time.sleep(908)"
    )
    owner = start(marker, sys.executable, "-c", code, str(tmp_path / "home"))
    read_until(owner, "started")
    log = tmp_path / "home" / "logs" / "worker.log"
    wait_for(lambda: "beat: Starting" in log.read_text(), "beat", progress=lambda: log.stat())
    assert sum("celery" in line for line in living(marker)) >= 2
    owner.kill()
    owner.wait()
    assert_all_gone(marker)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_the_children_of_a_celery_worker_end_when_it_is_killed(
    marker: str, tmp_path: Path, pool: str
) -> None:
    """Of the worker itself, as it runs in production, without any keeper."""
    log = tmp_path / "log"
    broker = os.environ.get("REDIS_URL")
    if not broker:
        pytest.skip("needs the servers of `make test`")
    worker = start(
        marker, sys.executable, "-m", "celery", "-A", "config", "worker", "-B", "-P", pool,
        "-c", "2", "-Q", f"nobody-{marker}", "--without-gossip", "--without-mingle",
        "--loglevel", "INFO", "--schedule", str(tmp_path / "beat"), "--logfile", str(log),
        AVIARY_HOME=str(tmp_path), AVIARY_TICK_SECONDS="3600",
    )  # fmt: skip
    wait_for(
        lambda: (
            log.exists() and "beat: Starting" in log.read_text() and " ready." in log.read_text()
        ),
        "the worker",
        progress=lambda: log.exists() and log.stat().st_size,
    )
    assert len(living(marker)) >= (2 if pool == "threads" else 4)
    worker.kill()
    worker.wait()
    assert_all_gone(marker)


SUITE = """
import pathlib, subprocess, sys, time
from playwright.sync_api import sync_playwright
from tests.browser.conftest import find_browser
def test_slow():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(909)"], start_new_session=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), headless=True)
        browser.new_page()
        pathlib.Path(__file__).with_name("browsing").touch()
        time.sleep(910)
"""


@pytest.mark.parametrize("victim", ["launcher", "pytest", "worker", "all"])
def test_no_browser_and_no_parallel_worker_outlives_a_suite_that_is_killed(
    marker: str, tmp_path: Path, victim: str
) -> None:
    from tests.browser.conftest import find_browser

    find_browser()
    (tmp_path / "test_slow.py").write_text(SUITE)
    named = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL"), "")
    suite = subprocess.Popen(
        [
            sys.executable, "-m", "servers", "--", sys.executable, "-m", "pytest", "-p",
            "no:cacheprovider", "-n", "1", "--max-worker-restart=0", "-c", ROOT / "pyproject.toml",
            "--rootdir", ROOT, tmp_path / "test_slow.py",
        ],
        cwd=ROOT,
        env={**os.environ, **named, MARKER: marker, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=(tmp_path / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    wait_for(
        lambda: (tmp_path / "browsing").exists() or suite.poll() is not None,
        "the browser",
        progress=lambda: len(living(marker)),
    )
    # The browser's own processes write over their environment.
    started = {pid: started_at(pid) for pid in descendants(suite.pid)}
    lines = {pid: command_of(pid) for pid in started}
    assert any("--type=renderer" in line for line in lines.values()), (tmp_path / "log").read_text()
    controller, worker = (
        next(pid for pid, line in lines.items() if line.startswith(sys.executable) and part in line)
        for part in (" -m pytest ", " -c import sys;exec(eval(sys.stdin.readline()))")
    )
    if victim == "all":
        os.killpg(suite.pid, signal.SIGKILL)
    else:
        victims = {"launcher": suite.pid, "pytest": controller, "worker": worker}
        os.kill(victims[victim], signal.SIGKILL)
    suite.wait()
    assert_all_gone(marker)
    still = [line for pid, line in lines.items() if started_at(pid) == started[pid] is not None]
    assert still == []


def started_at(pid: int) -> str | None:
    """In the kernel's ticks; None for a process that is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
