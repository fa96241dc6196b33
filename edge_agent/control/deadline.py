"""Connections whose answer has to begin in time, however slowly its first bytes trickle in.

A socket's timeout bounds the silence between two bytes and not their sum: a header that comes one
byte at a time passes it for days.
"""

import contextlib
import socket
import ssl
import threading
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from edge_agent.control.tls import check_outlasts_release, is_clock_behind, make_timeless_context


def make_pool_manager(
    *, answer_deadline_s: float, ca_file: str = "", **options: Any
) -> PoolManager:
    """A pool manager whose connections are cut when no whole header came within the deadline.

    Args:
        ca_file: PEM bundle to trust in place of the system's; empty uses the system's.
    """

    class TimedAnswers:
        def getresponse(self: Any) -> Any:
            timer = threading.Timer(answer_deadline_s, cut, [self.sock])
            timer.daemon = True
            timer.start()
            try:
                return super().getresponse()  # type: ignore[misc]
            finally:
                timer.cancel()

    class TimedHTTP(TimedAnswers, HTTPConnection):
        pass

    class TimedHTTPS(TimedAnswers, HTTPSConnection):
        def connect(self) -> None:
            # Each time anew: the clock may have been set since this object connected last.
            self.ssl_context = None
            try:
                super().connect()
            except ssl.SSLCertVerificationError as error:
                if not is_clock_behind(error):
                    raise
                self.close()
                self.ssl_context = make_timeless_context(ca_file)
                super().connect()
                sock: Any = self.sock
                check_outlasts_release(sock.getpeercert(), self.host)

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = TimedHTTP

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = TimedHTTPS

    if ca_file:
        options["ca_certs"] = ca_file
    manager = PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": HTTPPool, "https": HTTPSPool}
    return manager


def cut(sock: socket.socket) -> None:
    """Wakes whoever reads from the socket with an end of file."""
    with contextlib.suppress(OSError):
        # The plain socket's method: that of a TLS socket would touch state its reader uses.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
