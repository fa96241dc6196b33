"""Load by wrk, which costs the machine little beside what it measures."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("polls.lua")
THREADS = 1
CONNECTIONS = 64


class WrkError(Exception):
    """wrk is not installed, or its run failed."""


@dataclass(frozen=True)
class Caller:
    """One device as wrk plays it; empty texts send no such header."""

    device_id: str
    token: str
    etag: str = ""
    running: str = ""


@dataclass(frozen=True)
class Load:
    """What one run saw."""

    requests: int
    per_second: float
    p99_ms: float
    others: int
    """Answers that were neither 2xx nor 3xx, and calls without an answer."""


def run_polls(url: str, callers: list[Caller], *, model: str, folder: Path, seconds: float) -> Load:
    """Polls of these devices in turn, as fast as they are answered."""
    path = folder / "callers.txt"
    path.write_text(
        "".join(f"{c.device_id} {c.token} {c.etag or '-'} {c.running or '-'}\n" for c in callers),
        encoding="ascii",
    )
    host = url.split("//", 1)[1].split("/", 1)[0]
    arguments = [str(path), host, model, str(THREADS)]
    return run(url, seconds=seconds, script=_SCRIPT, arguments=arguments)


def run(
    url: str, *, seconds: float, script: Path | None = None, arguments: list[str] | None = None
) -> Load:
    """wrk against an address.

    Raises:
        WrkError
    """
    program = shutil.which("wrk")
    if program is None:
        raise WrkError("wrk is not installed (Debian: apt-get install wrk)")
    command = [program, f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    command += [url, *(["--", *arguments] if arguments else [])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise WrkError(f"wrk ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
    return read_output(ended.stdout)


def read_output(text: str) -> Load:
    """The figures in wrk's own words.

    Raises:
        WrkError: there are none.
    """
    total = re.search(r"(\d+) requests in ([\d.]+)(m?s)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", text)
    if total is None or rate is None or late is None:
        raise WrkError(f"wrk said nothing that is known:\n{text}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    others = int(failed.group(1)) if failed else 0
    others += sum(int(number) for number in socket.groups()) if socket else 0
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[late.group(2)]
    return Load(int(total.group(1)), float(rate.group(1)), float(late.group(1)) * scale, others)
