"""Connections of the local endpoint: so many at once, so long each, and no more."""

import json
import logging
import os
import queue
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.config import ServeConfig
from edge_agent.exceptions import ConfigurationError
from edge_agent.serving.serving import Serving

logger = logging.getLogger(__name__)
MAX_TOKEN = 4096


class Listener(socketserver.TCPServer):
    """A fixed number of threads over a bounded queue of connections."""

    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, config: ServeConfig, serving: Serving, handler: Callable[..., Any]) -> None:
        """Binds at once; raises ConfigurationError where it cannot."""
        self.config = config
        self.serving = serving
        self.token = read_token(config)
        self.trouble: Mapping[str, str] = {}
        self._waiting: queue.Queue[tuple[Any, Any] | None] = queue.Queue(
            config.threads + config.queue
        )
        self._deadlines: dict[Any, tuple[float, bool]] = {}
        self._open = 0
        self._lock = threading.Lock()
        address: Any = (config.host, config.port)
        if config.unix_socket:
            self.address_family = socket.AF_UNIX
            address = config.unix_socket
            Path(address).unlink(missing_ok=True)
        elif ":" in config.host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, handler)
        except OSError as error:
            raise ConfigurationError(f"[serve] cannot listen on {address}: {error}") from error
        if config.unix_socket:
            os.chmod(config.unix_socket, 0o600)

    def start_workers(self) -> None:
        for _ in range(self.config.threads):
            threading.Thread(target=self._work, name="endpoint-worker", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = self._open >= self.config.threads + self.config.queue
            self._open += not is_full
        if is_full:
            self._turn_away(request)
            return
        self.set_deadline(request)
        self._waiting.put((request, client_address))

    def set_deadline(self, request: Any, *, is_idle: bool = False) -> None:
        """Cuts the connection when its next request has not come by then.

        An idle one, which had its answer and is kept for another, goes as soon as others wait.
        """
        self._deadlines[request] = (time.monotonic() + self.config.timeout_s, is_idle)

    def clear_deadline(self, request: Any) -> None:
        self._deadlines.pop(request, None)

    def service_actions(self) -> None:
        """Cuts the connections past their deadline, however slowly they still send."""
        now, others_wait = time.monotonic(), not self._waiting.empty()
        for request, (deadline, is_idle) in list(self._deadlines.items()):
            if now > deadline or (is_idle and others_wait):
                self.clear_deadline(request)
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:
                    logger.debug("connection was gone already")

    def server_close(self) -> None:
        super().server_close()
        for _ in range(self.config.threads):
            self._waiting.put(None)
        for request in list(self._deadlines):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("connection was gone already")
        if self.config.unix_socket:
            Path(self.config.unix_socket).unlink(missing_ok=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("connection broke off", exc_info=True)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            request, client_address = item
            try:
                self.finish_request(request, client_address)
            except Exception:  # noqa: BLE001 one connection's failure is not the next one's
                self.handle_error(request, client_address)
            finally:
                self.clear_deadline(request)
                self.shutdown_request(request)
                with self._lock:
                    self._open -= 1

    def _turn_away(self, request: Any) -> None:
        body = encode_error("busy", "every thread and every place in the queue is taken")
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        )
        try:
            request.settimeout(1.0)
            request.sendall(head.encode() + body)
        except OSError:
            logger.debug("client left before it was turned away")
        self.shutdown_request(request)


def encode_error(code: str, message: str) -> bytes:
    """The one error shape of the project."""
    return json.dumps({"code": code, "message": message, "details": {}}).encode()


def read_token(config: ServeConfig) -> str:
    """The token to ask for; empty asks for none.

    Raises:
        ConfigurationError: the file cannot be read, or is empty.
    """
    if not config.token_file:
        return ""
    try:
        with open(config.token_file) as stream:
            token = stream.read(MAX_TOKEN).strip()
    except OSError as error:
        raise ConfigurationError(f"[serve] token_file: {error}") from error
    if not token:
        raise ConfigurationError(f"[serve] token_file {config.token_file} is empty")
    return token
