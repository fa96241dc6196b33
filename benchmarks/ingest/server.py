"""The real web server over the benchmark's database."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import time
from collections.abc import Iterator

from servers.kept import Kept
from servers.processes import free_port


@contextlib.contextmanager
def serving(workers: int = 2) -> Iterator[tuple[str, int]]:
    """Address of a server that answers; it ends with the block."""
    port = free_port()
    environment = {**os.environ, "AVIARY_QUOTA_INGEST": "100000000", "LOG_LEVEL": "WARNING"}
    line = [sys.executable, "-m", "config.serve", "--port", str(port), "--workers", str(workers)]
    server = Kept(line, env=environment)
    try:
        while not answers(port):
            if server.poll() is not None:
                raise RuntimeError(f"The web server ended with {server.returncode}")
            time.sleep(0.1)
        yield "127.0.0.1", port
    finally:
        server.terminate()
        server.wait()


def answers(port: int) -> bool:
    """Whether a server answers there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
