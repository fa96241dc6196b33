"""What stands in the way of this device doing its work, and what a person can do about it."""

import errno
import json
import os
import socket
import sqlite3
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.cli.ownership import find_foreign
from edge_agent.config import Config
from edge_agent.control.client import DeviceClient, load_credentials
from edge_agent.control.transport import Transport
from edge_agent.control.trust import TrustKeeper
from edge_agent.exceptions import AgentError, AnswerError, StateError
from edge_agent.files import DiskFiles
from edge_agent.inference.providers import check_provider, list_available
from edge_agent.observation.spool import Spool
from edge_agent.releases.release_store import ReleaseStore
from edge_agent.releases.state import Layout, StateStore
from edge_agent.releases.trust import parse_version
from edge_agent.version import RELEASED_ON, __version__

MIN_RUNTIME = "1.20"
MAX_CLOCK_OFF_S = 300.0
MAX_SPOOL_FILL = 0.8


@dataclass(frozen=True)
class Check:
    name: str
    is_ok: bool
    detail: str
    advice: str = ""
    """What to do when it is not ok."""


#: Code of a trouble to what to do about it.
TROUBLE_ADVICE = {
    "counter_replayed": (
        "the server offers what is older than what this device has acted on: most likely its "
        "database was restored from a backup. On the server run: manage.py raise_counters. "
        "Nothing on this device needs to be changed; what it runs goes on running"
    ),
}


def examine_device(config: Config) -> list[Check]:
    """Every check that can be made; those that need a home are left out where there is none."""
    home = check_home(config)
    checks = [home, check_runtime(), *check_providers(config), *check_server(config)]
    if home.is_ok:
        checks[1:1] = [check_disk(config), check_fsync(config)]
    if config.home.is_dir():
        checks += [*check_state(config), *check_spool(config)]
    return checks


def check_home(config: Config) -> Check:
    """The home is there, this user may write to it, and nobody else may read its credentials."""
    try:
        config.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = config.home / f".write-probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        advice = f"let user {os.geteuid()} write there, or set [agent] home elsewhere"
        if error.errno == errno.EROFS:
            advice = (
                "the disk takes no writes: look for a failing card in `dmesg`, then repair or "
                "replace it; the model that is installed runs on, and records are kept in memory"
            )
        return Check("home", False, f"{config.home}: {error.strerror}", advice)
    credentials = Layout(config.home).credentials
    if credentials.exists() and credentials.stat().st_mode & 0o077:
        detail = f"{credentials} can be read by others"
        return Check("home", False, detail, f"chmod 600 {credentials}")
    foreign = find_foreign(config.home)
    if foreign:
        owner = config.home.stat().st_uid
        detail = f"{len(foreign)} files are not user {owner}'s, whose home it is: {foreign[0]}"
        return Check("home", False, detail, f"as root: chown -hR {owner} {config.home}/")
    return Check("home", True, str(config.home))


def check_disk(config: Config) -> Check:
    status = os.statvfs(config.home)
    free = status.f_bavail * status.f_frsize
    reserve = config.install.disk_reserve_bytes
    return Check(
        "disk",
        free > reserve,
        f"{free >> 20} MB free, reserve {reserve >> 20} MB",
        "make room, or lower [install] disk_reserve_bytes; until then no release is downloaded",
    )


def check_fsync(config: Config) -> Check:
    """Zero is as bad as slow: a disk that answers at once may be lying."""
    path = config.home / f".fsync-probe-{os.getpid()}"
    times = []
    try:
        with path.open("wb", buffering=0) as stream:
            for _ in range(20):
                stream.write(b"x" * 4096)
                started = time.perf_counter()
                os.fsync(stream.fileno())
                times.append((time.perf_counter() - started) * 1e3)
    except OSError as error:
        return Check("fsync", False, f"{config.home}: {error.strerror}", "make room on the disk")
    finally:
        path.unlink(missing_ok=True)
    median = statistics.median(times)
    detail = f"median {median:.2f} ms, worst {max(times):.2f} ms"
    return Check("fsync", median < 500, detail, "use a faster disk or card; installs wait for it")


def check_runtime() -> Check:
    try:
        import onnxruntime
    except ImportError as error:
        return Check("runtime", False, str(error), "pip install onnxruntime, for this Python")
    version = str(onnxruntime.__version__)
    is_new = parse_version(version) >= parse_version(MIN_RUNTIME)
    advice = f"pip install 'onnxruntime>={MIN_RUNTIME}'"
    return Check("runtime", is_new, f"ONNX Runtime {version}, needs {MIN_RUNTIME}", advice)


def check_providers(config: Config) -> list[Check]:
    available = list_available()
    checks = []
    for name in config.inference.providers:
        failure = check_provider(name, available)
        detail = failure or "in the build, and loads"
        advice = "install the named library, or take the provider out of [inference] providers"
        checks.append(Check(f"provider {name}", not failure, detail, advice))
    return checks


def check_server(config: Config) -> list[Check]:
    """Name, reachability, clock and credential, as far as each can be asked."""
    checks = [check_name(config)]
    transport = Transport(config.network, user_agent=f"aviary-agent/{__version__}")
    started = time.monotonic()
    try:
        response = transport.open_stream(config.server_url.rstrip("/") + "/healthz", headers={})
        response.close()
    except AgentError as error:
        detail = f"{error.code}: {error}"
        checks.append(Check("server", False, detail, advise(str(error))))
        return [*checks, check_own_clock(time.time())]
    took = (time.monotonic() - started) * 1e3
    kind = response.headers.get("Content-Type", "").split(";")[0]
    is_ours = response.status == 200 and kind == "application/json"
    detail = f"{response.status} {kind}, {took:.0f} ms"
    advice = "something else answers: a log-in page, a proxy, or another program at this address"
    checks.append(Check("server", is_ours, detail, advice))
    checks.append(check_clock(response.headers.get("Date", "")))
    if is_ours:
        checks.append(check_credential(config, transport))
    return checks


def check_name(config: Config) -> Check:
    parts = urlsplit(config.server_url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname or "", port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        advice = "check [agent] server_url, and the name servers in /etc/resolv.conf"
        return Check("name", False, f"{parts.hostname}: {error}", advice)
    return Check("name", True, f"{parts.hostname} is {found[0][4][0]}")


#: Words of a failed connection's error, all of which must occur, and what to do about it.
ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("has expired",), "check this device's clock first, then the server's certificate"),
    (("certificate ended",), "check this device's clock first, then the server's certificate"),
    (("not yet valid",), "check this device's clock first, then the server's certificate"),
    (
        ("certificate", "mismatch"),
        "use the name the certificate is for in [agent] server_url; if it is the right one, "
        "something else answers in the server's place: a log-in page, a proxy, a wrong address",
    ),
    (
        ("certificate", "self-signed"),
        "open a web page in this network: it may ask to log in; else set [network] ca_file to the "
        "authority that signed the server's certificate",
    ),
    (
        ("certificate",),
        "set [network] ca_file to the authority that signed the server's certificate",
    ),
    (("no TLS of version 1.2",), "let the server, or the proxy before it, speak TLS 1.2 or later"),
    (("does not speak TLS",), "the server speaks plain http at this port: change server_url"),
    (
        ("cut in the middle",),
        "something between cuts TLS: a firewall, a proxy, a weak radio; the agent tries again "
        "by itself",
    ),
    (
        ("refused",),
        "the address answers and the port does not: is the control plane running there?",
    ),
)


def advise(error: str) -> str:
    """What to do about a failed connection, by the words of its error."""
    for words, advice in ADVICE:
        if all(word in error for word in words):
            return advice
    return "check cable, radio, firewall and [agent] server_url"


def check_clock(date: str) -> Check:
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Check("clock", True, "the server does not state its time")
    off = time.time() - theirs
    return Check(
        "clock",
        abs(off) < MAX_CLOCK_OFF_S,
        f"{off:+.1f} s from the server's",
        "set the clock or run a time service; until then records carry wrong times and a TLS "
        "certificate can look expired",
    )


def check_own_clock(now: float) -> Check:
    """All that can be said of the clock while no server states the time."""
    said = datetime.fromtimestamp(now, UTC)
    released = datetime.fromisoformat(RELEASED_ON).replace(tzinfo=UTC)
    return Check(
        "clock",
        said >= released,
        f"says {said.isoformat(timespec='seconds')}, and this agent was released on {RELEASED_ON}",
        "set the clock or run a time service",
    )


def check_credential(config: Config, transport: Transport) -> Check:
    """The device token, tried."""
    again = "enrol with a new join token: aviary-agent enroll --join-token TOKEN"
    try:
        credentials = load_credentials(DiskFiles(), Layout(config.home), config.device_id)
    except (AgentError, OSError) as error:
        return Check("credential", False, str(error), again)
    if credentials is None:
        return Check("credential", False, "this device has not enrolled", again)
    try:
        DeviceClient(config, transport, credentials).get_desired()
    except AnswerError as error:
        advice = again if error.status == 401 else "ask a person to accept this device in the admin"
        return Check("credential", False, str(error), advice)
    except AgentError as error:
        return Check("credential", False, f"{error.code}: {error}", advise(str(error)))
    return Check("credential", True, f"accepted for {config.device_id}")


def check_state(config: Config) -> list[Check]:
    """What was blocked or damaged, trials under way, and whether the state could be read."""
    layout = Layout(config.home)
    try:
        state = StateStore(DiskFiles(), layout).load()
    except (StateError, OSError) as error:
        advice = "restart the agent: it rebuilds the state; then look for a failing disk"
        return [Check("state", False, str(error), advice)]
    release_store = _open_release_store(config, layout)
    checks = []
    if layout.state.with_suffix(".corrupt").exists():
        detail = "state.json was damaged once and has been rebuilt"
        advice = f"look for a failing disk, then remove {layout.state.with_suffix('.corrupt')}"
        checks.append(Check("state", False, detail, advice))
    for slug, model in state.models.items() if state else ():
        for digest, reason in model.blocked.items():
            advice = f"remove the cause and run: aviary-agent unblock --model {slug}"
            checks.append(Check(f"model {slug}", False, f"blocked {digest[:12]}: {reason}", advice))
        if model.trial is not None and model.tries > 1:
            detail = f"{model.trial.version} was interrupted in {model.tries} tries"
            advice = "look for restarts and power cuts during its self-test"
            checks.append(Check(f"model {slug}", False, detail, advice))
        for release in filter(None, (model.current, model.previous)):
            if release_store is not None and not release_store.is_whole(release):
                detail = f"{release.version} is damaged on the disk"
                advice = "restart the agent: it fetches it anew; then look for a failing disk"
                checks.append(Check(f"model {slug}", False, detail, advice))
        if model.current is None and model.action == "install":
            detail = "nothing is installed"
            advice = "aviary-agent status says why; aviary-agent sync tries now"
            checks.append(Check(f"model {slug}", False, detail, advice))
    checks += check_trouble(layout)
    return checks or [Check("state", True, f"{len(state.models) if state else 0} models")]


def check_trouble(layout: Layout) -> list[Check]:
    """What the running agent last wrote that stands in its way, each with what to do."""
    try:
        trouble = json.loads(DiskFiles().read(layout.runtime) or b"{}").get("trouble", {})
    except (ValueError, OSError, AttributeError):
        return []  # it is being written in place; the next look finds it
    checks = []
    for name, words in trouble.items() if isinstance(trouble, dict) else ():
        code = str(words).split(":")[0]
        advice = TROUBLE_ADVICE.get(code, "aviary-agent status and the log say more")
        checks.append(Check(str(name), False, str(words), advice))
    return checks


def _open_release_store(config: Config, layout: Layout) -> ReleaseStore | None:
    """What is needed to verify releases; None without credentials, which has a check of its own."""
    files = DiskFiles()
    try:
        credentials = load_credentials(files, layout, config.device_id)
    except AgentError:
        return None
    if credentials is None:
        return None
    store = ReleaseStore(
        files, layout, device_id=config.device_id, trust_keys=credentials.trust_keys
    )
    keeper = TrustKeeper(
        config, files, layout, Transport(config.network, user_agent="aviary-agent doctor")
    )
    store.trust(*keeper.read_keys(credentials.trust_keys, now=datetime.now(UTC)))
    return store


def check_spool(config: Config) -> list[Check]:
    path: Path = Layout(config.home).spool
    if not path.exists():
        return []
    damaged = "restart the agent: it keeps every record whose page can be read; replace the disk"
    try:
        spool = Spool(path, config.spool, is_owner=False)
    except sqlite3.OperationalError as error:
        return [Check("spool", False, str(error), "make room on the disk, then restart the agent")]
    except sqlite3.DatabaseError as error:
        return [Check("spool", False, f"damaged: {error}", damaged)]
    try:
        faults = spool.find_damage()
        if faults:
            return [Check("spool", False, f"damaged: {faults}", damaged)]
        stat = spool.stat()
    except sqlite3.DatabaseError as error:
        return [Check("spool", False, f"damaged: {error}", damaged)]
    finally:
        spool.close()
    if path.with_suffix(".corrupt").exists():
        lost = stat.get("damaged_pages", 0)
        detail = f"was damaged once; the records of {lost} pages of 4096 bytes may be lost"
        advice = f"look for a failing disk, then remove {path.with_suffix('.corrupt')}"
        return [Check("spool", False, detail, advice)]
    fill = stat["bytes"] / config.spool.max_bytes
    detail = f"{fill:.0%} of {config.spool.max_bytes >> 20} MB, {stat['dropped']} records dropped"
    advice = "a full spool drops records: repair the connection, or raise [spool] max_bytes"
    return [Check("spool", fill < MAX_SPOOL_FILL, detail, advice)]
