"""How a process asks the signing service: one JSON line each way over a Unix socket."""

import base64
import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

from registry.signer.policy import MAX_MESSAGE_BYTES

TIMEOUT_SECONDS = 5.0
MAX_LINE_BYTES = MAX_MESSAGE_BYTES * 4 // 3 + 4096


class SignerUnavailableError(Exception):
    """The signing service did not answer."""


class SignerRefusedError(Exception):
    """The signing service does not sign this."""


class SocketSigner:
    """A connection for each thread, kept open; opened again when the service was restarted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def sign(self, role: str, message: bytes) -> tuple[bytes, bytes]:
        """The public key that signed, and the signature."""
        text = base64.b64encode(message).decode("ascii")
        answer = self._ask({"op": "sign", "role": role, "message": text})
        return base64.b64decode(answer["public_key"]), base64.b64decode(answer["signature"])

    def known_keys(self, role: str) -> list[bytes]:
        """The public keys of `role`, the active one first."""
        answer = self._ask({"op": "keys", "role": role})
        return [base64.b64decode(text) for text in answer["public_keys"]]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps(request).encode("ascii") + b"\n"
        try:
            try:
                answer = self._exchange(line)
            except (ConnectionError, EOFError):
                # Asking twice is harmless: the same message gets the same signature.
                self._drop()
                answer = self._exchange(line)
        except (OSError, EOFError, ValueError) as error:
            self._drop()
            raise SignerUnavailableError(
                f"The signing service at {self.path} does not answer: {error}"
            ) from error
        if not isinstance(answer, dict) or "error" in answer:
            raise SignerRefusedError(f"The signing service refused: {answer}")
        return answer

    def _exchange(self, line: bytes) -> Any:
        stream = getattr(self._local, "stream", None)
        if stream is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(self.path))
            stream = self._local.stream = connection.makefile("rwb")
            connection.close()  # the stream keeps it open
        stream.write(line)
        stream.flush()
        answer = stream.readline(MAX_LINE_BYTES)
        if not answer.endswith(b"\n"):
            raise EOFError("the connection ended")
        return json.loads(answer)

    def _drop(self) -> None:
        stream = getattr(self._local, "stream", None)
        self._local.stream = None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
