"""What stands in the way of this device doing its work."""

import os
import statistics
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from edge_agent import __version__
from edge_agent.config import Config
from edge_agent.exceptions import AgentError, AnswerError
from edge_agent.providers import check_provider, list_available
from edge_agent.state import Layout
from edge_agent.transport import Transport


@dataclass(frozen=True)
class Check:
    name: str
    is_ok: bool
    detail: str


def examine_device(config: Config) -> list[Check]:
    """Every check, whatever the others say."""
    return [
        check_home(config),
        check_fsync(config),
        *check_providers(config),
        *check_server(config),
    ]


def check_home(config: Config) -> Check:
    config.home.mkdir(parents=True, exist_ok=True)
    status = os.statvfs(config.home)
    free = status.f_bavail * status.f_frsize
    reserve = config.install.disk_reserve_bytes
    return Check("disk", free > reserve, f"{free >> 20} MB free, reserve {reserve >> 20} MB")


def check_fsync(config: Config) -> Check:
    """Zero is as bad as slow: a disk that answers at once may be lying."""
    path = config.home / ".fsync-probe"
    times = []
    with path.open("wb") as stream:
        for _ in range(20):
            stream.write(b"x" * 4096)
            stream.flush()
            started = time.perf_counter()
            os.fsync(stream.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    path.unlink()
    median = statistics.median(times)
    return Check("fsync", median < 500, f"median {median:.2f} ms, worst {max(times):.2f} ms")


def check_providers(config: Config) -> list[Check]:
    available = list_available()
    checks = []
    for name in config.inference.providers:
        failure = check_provider(name, available)
        checks.append(Check(f"provider {name}", not failure, failure or "in the build, and loads"))
    return checks


def check_server(config: Config) -> list[Check]:
    is_enrolled = Layout(config.home).credentials.exists()
    enrolled = Check("enrolled", is_enrolled, "yes" if is_enrolled else "no credentials here")
    transport = Transport(config.network, user_agent=f"aviary-agent/{__version__}")
    started = time.monotonic()
    url = config.server_url.rstrip("/") + "/healthz"
    try:
        response = transport.open_stream(url, headers={})
        response.close()
    except AnswerError as error:
        return [enrolled, Check("server", True, str(error))]
    except AgentError as error:
        return [enrolled, Check("server", False, f"{error.code}: {error}")]
    took = (time.monotonic() - started) * 1e3
    checks = [
        enrolled,
        Check("server", response.status == 200, f"{response.status}, {took:.0f} ms"),
    ]
    try:
        theirs = parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
        off = time.time() - theirs
        checks.append(Check("clock", abs(off) < 300, f"{off:+.1f} s from the server's"))
    except ValueError:
        checks.append(Check("clock", True, "the server does not state its time"))
    return checks
