"""`python -m config.serve`: the web server, with the limits that let it stand without a proxy.

A worker process that dies is started anew by the server; a server that dies, or gives up because a
worker died twice in a row, is started anew here.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from config.metrics_folder import share_folder

logger = logging.getLogger(__name__)

#: Milliseconds for the headers of a call; a connection that lies idle for as long is closed.
_HEADERS_MS = 10_000
#: Connections and calls at once in a process; a slow one costs a few kilobytes.
_MOST_CALLS = 4096
#: A server that ends sooner than this cannot start at all, if it does so every time.
_SHORT_LIFE_SECONDS = 5.0
_SHORT_LIVES = 5
_PR_SET_PDEATHSIG = 1


def command(host: str, port: int, workers: int) -> list[str]:
    """The web server's command line."""
    return [
        sys.executable, "-m", "granian",
        "--interface", "rsgi",
        "--host", host, "--port", str(port),
        "--workers", str(workers),
        # A worker that was killed comes back and takes none of the others with it.
        "--respawn-failed-workers", "--respawn-interval", "1",
        "--workers-kill-timeout", "30",
        # HTTP/2 would let one connection carry many slow bodies; a proxy may speak it outside.
        "--http", "1", "--no-ws",
        "--http1-header-read-timeout", str(_HEADERS_MS),
        "--backlog", str(_MOST_CALLS), "--backpressure", str(_MOST_CALLS),
        "config.rsgi:application",
    ]  # fmt: skip


class Supervisor:
    """Keeps the server running until it is told to end."""

    def __init__(self, line: list[str]) -> None:
        self._line = line
        self._server: subprocess.Popen[bytes] | None = None
        self._is_ending = False

    def run(self) -> int:
        """The exit status: the server's own, where it was told to end or cannot start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        short_lives = 0
        while True:
            started = time.monotonic()
            self._server = subprocess.Popen(self._line, preexec_fn=_die_with_parent)
            status = self._server.wait()
            is_short = time.monotonic() - started < _SHORT_LIFE_SECONDS
            short_lives = short_lives + 1 if is_short else 0
            if self._is_ending or short_lives >= _SHORT_LIVES:
                return status
            logger.error("The web server ended with %s and is started again", status)
            time.sleep(0.5)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._is_ending = True
        if self._server is not None:
            self._server.send_signal(number)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> int:
    """Serves until a signal ends it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m config.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2, help="processes that answer")
    chosen = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    share_folder()
    return Supervisor(command(chosen.host, chosen.port, chosen.workers)).run()


if __name__ == "__main__":
    sys.exit(main())
