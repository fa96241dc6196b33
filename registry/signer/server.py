"""The signing service's loop: reads requests from a Unix socket, signs what its policy allows."""

import base64
import json
import logging
import os
import socket
import socketserver
import struct
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry.signer.client import MAX_LINE_BYTES
from registry.signer.keys import KeyStore, KeyStoreError
from registry.signer.policy import RefusedError, check_message

logger = logging.getLogger(__name__)
IDLE_SECONDS = 600.0


class SigningServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves `store` at `path`.

    Args:
        allowed_uids: users that may ask; empty lets everybody whom the socket's mode lets in.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, store: KeyStore, *, allowed_uids: Collection[int] = ()) -> None:
        self.store = store
        self.allowed_uids = frozenset(allowed_uids)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        super().__init__(str(path), Conversation)
        os.chmod(path, 0o660)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """The kernel says who asks; nothing in the request does."""
        if not self.allowed_uids:
            return True
        raw = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", raw)[1]
        if uid not in self.allowed_uids:
            logger.warning("refused user %s", uid)
        return uid in self.allowed_uids


class Conversation(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        while line := self._read_line():
            try:
                answer = answer_request(self.server.store, line)  # type: ignore[attr-defined]
            except RefusedError as error:
                logger.warning("refused: %s", error)
                answer = {"error": str(error)}
            except KeyStoreError as error:
                logger.error("cannot sign: %s", error)
                answer = {"error": str(error)}
            except (ValueError, KeyError, TypeError) as error:
                answer = {"error": f"malformed request: {error}"}
            self.wfile.write(json.dumps(answer).encode("ascii") + b"\n")

    def _read_line(self) -> bytes:
        try:
            return self.rfile.readline(MAX_LINE_BYTES)
        except (TimeoutError, ConnectionError):
            return b""


def answer_request(store: KeyStore, line: bytes) -> dict[str, Any]:
    """The answer to one request line.

    Raises:
        RefusedError: the policy does not allow it.
        KeyStoreError: the key cannot be used.
        ValueError, KeyError, TypeError: not a request.
    """
    request = json.loads(line)
    role = str(request["role"])
    if request["op"] == "keys":
        return {"public_keys": [_text(key) for key in store.known_keys(role)]}
    if request["op"] != "sign":
        raise ValueError(f"expected op sign or keys, got {request['op']!r}")
    message = base64.b64decode(request["message"], validate=True)
    what = check_message(role, message, now=datetime.now(UTC))
    signature = store.sign(role, message)
    logger.info("signed as %s: %s", role, what)
    return {"public_key": _text(store.active_key(role)), "signature": _text(signature)}


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
