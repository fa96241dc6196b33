"""The control plane of a few lines behind real TLS, with an authority of its own."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from tests.edge_agent.publisher import Server

YEAR = timedelta(days=365)


class SecureServer(Server):
    """Serves over TLS; `mode` says how, and can change between two connections."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.url = self.url.replace("http://127.0.0.1", "https://localhost")
        self.mode: Callable[[socket.socket], socket.socket] = self.speak_tls()
        self._open: list[socket.socket] = []
        accept = self._http.http.get_request

        def get_request() -> tuple[socket.socket, Any]:
            plain, address = accept()
            wrapped = self.mode(plain)
            self._open.append(wrapped)
            return wrapped, address

        self._http.http.get_request = get_request  # type: ignore[method-assign]
        # A handshake that fails is what these tests are about, and no news.
        self._http.http.handle_error = lambda *_: None  # type: ignore[method-assign]

    def close_connections(self) -> None:
        """Ends what is open, so that everybody has to connect anew."""
        while self._open:
            with contextlib.suppress(OSError):
                # The plain socket's method, for another thread may be inside TLS.
                socket.socket.shutdown(self._open.pop(), socket.SHUT_RDWR)

    def speak_tls(
        self,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        authority: trustme.CA | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> Callable[[socket.socket], socket.socket]:
        """A mode with a certificate for `names`; by default one that is right."""
        now = datetime.now(UTC)
        issuer = authority or self.authority
        certificate = issuer.issue_cert(
            *names, not_before=starts_at or now - YEAR, not_after=ends_at or now + YEAR
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if version is not None:
            # OpenSSL 3 allows SHA-1, which TLS 1.0 must sign with, at no higher level.
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        certificate.configure_cert(context)

        def wrap(plain: socket.socket) -> socket.socket:
            # The handshake is left to the thread that answers: it may never end.
            return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)

        return wrap


def speak_plain(plain: socket.socket) -> socket.socket:
    """Plain HTTP where TLS is expected."""
    return plain


def hang_up(plain: socket.socket) -> socket.socket:
    """Takes the beginning of the client's greeting and closes."""
    plain.recv(64)
    plain.shutdown(socket.SHUT_RDWR)
    return plain


def reset(plain: socket.socket) -> socket.socket:
    """Ends the connection with a reset, its greeting unread."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    plain.close()
    return plain


def stay_silent(plain: socket.socket) -> socket.socket:
    """Accepts and never says a word: the answering thread is given a line that nobody speaks on."""
    silent, _other_ends[plain] = socket.socketpair()
    return silent


#: Kept, for a socket that nobody holds is closed.
_other_ends: dict[socket.socket, socket.socket] = {}
