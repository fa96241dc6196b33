"""Stands between a device and the server: counts what passes, and can damage it."""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import urllib3

from servers.threaded import ThreadedServer

_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Proxy:
    """Forwards every request; `body_bytes` counts what was answered, by path without query."""

    def __init__(self, server_url: str) -> None:
        self.body_bytes: Counter[str] = Counter()
        self.damaged: set[str] = set()
        """Paths whose bodies get one byte changed on the way."""
        self.stumbles: Callable[[str, bytes], bool] = lambda path, body: False
        """Requests that are answered 500 here and never reach the server."""
        self.loses: Callable[[str, bytes], bool] = lambda path, body: False
        """Requests that reach it, and whose answer does not come back: 502."""
        pool = urllib3.PoolManager(retries=False)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                given = self.rfile.read(length)
                plain = given
                if self.headers.get("Content-Encoding") == "gzip":
                    plain = gzip.decompress(given)
                if outer.stumbles(self.path, plain):
                    self.answer_error(500)
                    return
                answer = pool.request(
                    self.command,
                    server_url + self.path,
                    headers=dict(self.headers),
                    body=given,
                    redirect=False,
                    decode_content=False,
                )
                if outer.loses(self.path, plain):
                    self.answer_error(502)
                    return
                # Addresses in answers lead back here; what is signed is in base64 and stays.
                body = answer.data.replace(server_url.encode(), outer.url.encode())
                path = self.path.split("?")[0]
                outer.body_bytes[path] += len(body)
                if path in outer.damaged:
                    body = body[:-1] + bytes([body[-1] ^ 1])
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP_HEADERS:
                        self.send_header(name, value)
                if answer.status not in (204, 304):
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def answer_error(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = forward

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadedServer(Handler)
        self.url = self._http.url

    def close(self) -> None:
        self._http.close()


@contextmanager
def running_proxy(server_url: str) -> Iterator[Proxy]:
    proxy = Proxy(server_url)
    try:
        yield proxy
    finally:
        proxy.close()
