"""HTTP under limits: time, size, redirects. Nothing here knows the protocol's documents."""

import functools
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from edge_agent.config import NetworkConfig
from edge_agent.exceptions import AnswerError, NotTheServerError, RedirectError, TransferError

if TYPE_CHECKING:
    import urllib3

logger = logging.getLogger(__name__)
CHUNK_BYTES = 64 << 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


class Transport:
    def __init__(self, config: NetworkConfig, *, user_agent: str) -> None:
        self.config = config
        self._headers = {"User-Agent": user_agent}

    @functools.cached_property
    def _pool(self) -> "urllib3.PoolManager":
        # Imported with the first call: a fifth of the time until the first inference, which needs
        # no network, and nothing of it.
        import urllib3

        from edge_agent.control.deadline import make_pool_manager
        from edge_agent.control.tls import check_ca_file

        config = self.config
        if config.ca_file:
            check_ca_file(config.ca_file)
        return make_pool_manager(
            answer_deadline_s=config.answer_deadline_s,
            ca_file=config.ca_file,
            num_pools=4,
            maxsize=2,
            retries=False,
            timeout=urllib3.Timeout(connect=config.connect_timeout_s, read=config.read_timeout_s),
        )

    def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """A JSON call to the server itself; redirects are refused, for they would carry the token.

        Raises:
            AnswerError: an error status, with the server's code and `Retry-After`.
            NotTheServerError: the answer is not this protocol's.
            TransferError: no answer, or one past the limit of bytes.
        """
        response = self._open(method, url, headers or {}, body)
        try:
            data = self._read_bounded(response)
        finally:
            response.release_conn()
        if response.status in REDIRECTS:
            raise NotTheServerError(f"{urlsplit(url).path} answered a redirect")
        if response.status in (204, 304):
            return Answer(response.status, response.headers, None)
        document = self._parse(response, data, url)
        if response.status >= 400:
            details = document if isinstance(document, dict) else {}
            code = clean_text(details.get("code", ""), 100)
            retry_after_s = parse_retry_after(response.headers.get("Retry-After"))
            if not code and retry_after_s is not None:
                # Not the server itself: whatever stands before it may be gone in a minute.
                retry_after_s = min(retry_after_s, self.config.backoff_max_s)
            message = clean_text(details.get("message", ""), 500)
            raise AnswerError(response.status, code, message, retry_after_s, details.get("details"))
        return Answer(response.status, response.headers, document)

    def open_stream(
        self, url: str, *, headers: Mapping[str, str]
    ) -> "urllib3.response.BaseHTTPResponse":
        """A GET whose body the caller reads. A few redirects are followed, never to plain HTTP.

        No token is sent: the address is signed, and its host may be a store of somebody else.
        """
        for _ in range(self.config.max_redirects + 1):
            response = self._open("GET", url, headers, None)
            if response.status not in REDIRECTS:
                return response
            response.close()
            try:
                target = urljoin(url, response.headers.get("Location", ""))
                scheme = urlsplit(target).scheme
            except ValueError as error:
                raise RedirectError(f"redirect to no address: {error}") from error
            if scheme not in ("http", "https"):
                raise RedirectError(f"redirect to scheme {scheme!r}")
            if urlsplit(url).scheme == "https" and scheme != "https":
                raise RedirectError("redirect from https to plain http")
            url = target
        raise RedirectError(f"more than {self.config.max_redirects} redirects")

    def fetch_bytes(self, url: str, *, limit: int) -> bytes | None:
        """A small file that anybody may read, as it is; None when the server has none.

        Raises:
            TransferError: no answer, another status, or more than `limit` bytes.
        """
        response = self._open("GET", url, {}, None)
        try:
            data = self._read_bounded(response, limit)
        finally:
            response.release_conn()
        if response.status == 404:
            return None
        if response.status != 200:
            raise TransferError(f"{urlsplit(url).path} answered {response.status}")
        return data

    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> "urllib3.response.BaseHTTPResponse":
        from urllib3.exceptions import HTTPError, ProtocolError

        from edge_agent.control.tls import explain

        def send() -> "urllib3.response.BaseHTTPResponse":
            return self._pool.request(
                method,
                url,
                headers={**self._headers, **headers},
                body=body,
                preload_content=False,
                redirect=False,
            )

        try:
            try:
                return send()
            except ProtocolError:
                # A kept connection may have been closed at the other end just before it was used
                # again. A GET can be repeated at once; the rest waits for its own next turn.
                if method != "GET":
                    raise
                return send()
        except (HTTPError, OSError, ValueError) as error:
            raise explain(error, f"{method} {urlsplit(url).netloc}") from error

    def _read_bounded(
        self, response: "urllib3.response.BaseHTTPResponse", limit: int | None = None
    ) -> bytes:
        from urllib3.exceptions import HTTPError

        limit = self.config.answer_max_bytes if limit is None else limit
        data = b""
        deadline = time.monotonic() + self.config.answer_deadline_s
        try:
            # One piece at a time: a read of many would wait for all of them.
            while chunk := response.read1(CHUNK_BYTES, decode_content=True):
                data += chunk
                if len(data) > limit:
                    break
                if time.monotonic() > deadline:
                    response.close()
                    raise TransferError(f"answer took over {self.config.answer_deadline_s} s")
        except (HTTPError, OSError, MemoryError) as error:
            raise TransferError(f"answer broke off: {error}") from error
        if len(data) > limit:
            response.close()
            raise TransferError(f"answer is longer than {limit} bytes")
        return data

    def _parse(self, response: "urllib3.response.BaseHTTPResponse", data: bytes, url: str) -> Any:
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if kind == "application/json" or kind.endswith("+json"):
            try:
                return json.loads(data)
            except (ValueError, RecursionError) as error:
                raise NotTheServerError(f"{urlsplit(url).path} answered broken JSON") from error
        if response.status >= 400:
            return None
        raise NotTheServerError(
            f"{urlsplit(url).path} answered {response.status} with {kind or 'no content type'}"
        )


def clean_text(value: Any, most: int) -> str:
    """A server's words for a log: a single line of at most `most` letters."""
    text = str(value)[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds, or None when absent or a date (whose clock we do not trust)."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
