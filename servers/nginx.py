"""The project's own proxy: nginx with `deploy/nginx.conf`, on ports and folders of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from servers.processes import ManagedProcess, ServerError, free_port, is_listening

CONFIG = Path(__file__).resolve().parents[1] / "deploy" / "nginx.conf"
HOW = "install nginx (Debian: apt-get install nginx-light) or set NGINX_PATH"


def find_nginx() -> Path | None:
    """The program; None where there is none."""
    named = os.environ.get("NGINX_PATH")
    found = named or shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found and Path(found).exists() else None


class NginxServer:
    """Started by `start`, reached by `url`; the caller owns `directory`."""

    def __init__(self, directory: Path, upstream_port: int, *, port: int = 0) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = directory / "nginx.conf"
        self._upstream_port = upstream_port
        self._process: ManagedProcess | None = None

    @property
    def process(self) -> ManagedProcess:
        """The one that was started last."""
        assert self._process is not None, "it was not started"
        return self._process

    def start(self) -> "NginxServer":
        """Starts it, or starts it again after it ended.

        Raises:
            ServerError: there is no nginx, or it ended.
        """
        program = self._program()
        self.config.write_text(self.text(), encoding="utf-8")
        self._process = ManagedProcess(
            "nginx",
            [program, "-p", self.directory, "-c", self.config, "-g", "daemon off;"],
            log_path=self.directory / "log",
            env=os.environ,
            cwd=self.directory,
            drop_root=False,
        )
        self._process.wait_until(lambda: is_listening(self.port))
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def check(self) -> subprocess.CompletedProcess[str]:
        """What `nginx -t` says of the configuration."""
        self.config.write_text(self.text(), encoding="utf-8")
        return subprocess.run(
            [str(self._program()), "-t", "-p", str(self.directory), "-c", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
        )

    def text(self) -> str:
        """The project's configuration with this server's ports and folders, and nothing else.

        Raises:
            ServerError: a line that has to be replaced is not there.
        """
        text = CONFIG.read_text(encoding="utf-8")
        for pattern, new in (
            (r"\bserver web:8000;", f"server 127.0.0.1:{self._upstream_port};"),
            (r"\blisten 8000;", f"listen 127.0.0.1:{self.port};"),
            (r" /tmp/", f" {self.directory}/"),
        ):
            text, count = re.subn(pattern, new, text)
            if not count:
                raise ServerError(f"{CONFIG}: nothing is like {pattern}")
        return text

    def _program(self) -> Path:
        program = find_nginx()
        if program is None:
            raise ServerError(f"no nginx: {HOW}")
        return program
