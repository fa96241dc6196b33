"""Calls of the server: JSON in and out, one shape of errors, patience with a busy server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from aviary_client.errors import ApiError, SettingsError, TransferError
from aviary_client.version import __version__

CONNECT_SECONDS = 10.0
#: The server may read gigabytes before it answers the end of an upload.
READ_SECONDS = 600.0
#: Of one answer; a page of a list has at most 500 rows.
MOST_BYTES = 64 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Transport:
    """One server, with one token."""

    def __init__(self, server: str, token: str) -> None:
        """Calls nothing yet.

        Raises:
            SettingsError: no http or https address, or a token in clear text over a network.
        """
        self.server = server.rstrip("/")
        parts = urlsplit(self.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{server!r} is no address that begins with https://")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise SettingsError(f"{server} would carry the token in clear text; use https://")
        self._headers = {
            "Authorization": f"Token {token}",
            "Accept": "application/json",
            "User-Agent": f"aviary-client/{__version__}",
        }
        self.pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=urllib3.Retry(
                connect=3,
                read=2,
                # A redirect would carry the token elsewhere.
                redirect=0,
                status=4,
                other=0,
                backoff_factor=0.5,
                backoff_jitter=0.5,
                status_forcelist=(429, 502, 503, 504),
                allowed_methods=("GET", "HEAD", "PUT", "DELETE"),
                raise_on_status=False,
            ),
        )

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET below `/api/v1/`."""
        return self.call("GET", path, query=query)

    def rows(self, path: str, *, most: int | None = None, **query: Any) -> Iterator[Any]:
        """The rows of a list, page after page, at most `most`."""
        answer = self.get(path, **query)
        left = most
        while True:
            found = answer if isinstance(answer, list) else answer["results"]
            for row in found:
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield row
            following = None if isinstance(answer, list) else answer.get("next")
            if not following:
                return
            # Of the address only the query is taken: a proxy may have given it another host.
            answer = self.call("GET", f"{path}?{urlsplit(following).query}")

    def post(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """The answer to a POST of JSON below `/api/v1/`."""
        return self.call("POST", path, body=dict(body or {}), query=query)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a PATCH."""
        return self.call("PATCH", path, body=dict(body))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a PUT."""
        return self.call("PUT", path, body=dict(body))

    def post_form(self, path: str, fields: Mapping[str, Any]) -> Any:
        """The answer to a POST of a form, with files where a value is `(name, bytes)`."""
        return self._read(
            self._send("POST", self._url(path), fields=dict(fields), headers=self._headers)
        )

    def put_bytes(self, url: str, data: bytes) -> int:
        """The status of a PUT of bytes; the token goes to this server and nowhere else."""
        headers = {"Content-Type": "application/octet-stream"}
        if url.startswith(f"{self.server}/"):
            headers |= self._headers
        answer = self._send("PUT", url, body=data, headers=headers, preload_content=True)
        return int(answer.status)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON of the answer; None where it is empty.

        Raises:
            ApiError: the server refused. TransferError: it did not answer.
        """
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        url = self._url(path) + (f"?{urlencode(asked, doseq=True)}" if asked else "")
        options: dict[str, Any] = {"headers": dict(self._headers)}
        if body is not None:
            options["headers"]["Content-Type"] = "application/json"
            options["body"] = json.dumps(body).encode()
        return self._read(self._send(method, url, **options))

    def _url(self, path: str) -> str:
        return f"{self.server}/api/v1/{path}"

    def _send(self, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        try:
            return self.pool.request(method, url, **options)
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            host = urlsplit(url).netloc
            raise TransferError(f"{host} did not answer: {cause}") from error

    def _read(self, answer: urllib3.BaseHTTPResponse) -> Any:
        data = answer.data
        if len(data) > MOST_BYTES:
            raise TransferError(f"The server answered {len(data):,} bytes; {MOST_BYTES:,} at most")
        try:
            content = json.loads(data) if data else None
        except ValueError as error:
            words = data[:200].decode(errors="replace")
            raise ApiError(
                answer.status, "not_json", f"The server answered {answer.status}, not JSON: {words}"
            ) from error
        if answer.status < 300:
            return content
        if isinstance(content, dict) and "code" in content:
            raise ApiError(
                answer.status,
                str(content["code"]),
                str(content.get("message", "")),
                content.get("details") or {},
            )
        raise ApiError(answer.status, "unexpected", f"The server answered {answer.status}")
