"""A way to a server that can stop passing anything on, as a network or a server that hangs."""

import socket
import threading
from contextlib import suppress
from pathlib import Path


class HangingProxy:
    """Listens on a port of this machine and passes bytes to a server, both ways, until it hangs.

    While it hangs, connections are accepted and bytes are taken, and nothing comes back.
    """

    def __init__(self, upstream: tuple[str, int] | Path) -> None:
        self._upstream = upstream
        self._flows = threading.Event()
        self._flows.set()
        self.connections = 0
        """How many were made to it."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        self._flows.clear()

    def recover(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self.recover()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._flows.wait()
        if isinstance(self._upstream, Path):
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._upstream))
        else:
            far = socket.create_connection(self._upstream)
        threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
        self._pump(near, far)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                self._flows.wait()
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
