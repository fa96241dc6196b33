"""Reads what no signature covers of the server's answers: each part may be anything at all."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

from edge_agent.exceptions import DownloadError, NotTheServerError

MAX_MODELS = 64
MAX_SLUG_LETTERS = 128
MAX_ETAG_LETTERS = 256
MIN_POLL_S = 0.2


def read_assignments(body: Any) -> list[tuple[str, dict[str, Any]]]:
    """Model and answer of each assignment in the answer to `desired`.

    Raises:
        NotTheServerError: the answer has another shape, or more models than a device runs.
    """
    rows = body.get("assignments") if isinstance(body, dict) else None
    if not isinstance(rows, list) or len(rows) > MAX_MODELS:
        raise NotTheServerError(f"expected up to {MAX_MODELS} assignments, got {describe(body)}")
    named = [(row.get("model_id"), row) for row in rows if isinstance(row, dict)]
    return [
        (slug, row)
        for slug, row in named
        if isinstance(slug, str) and 0 < len(slug) <= MAX_SLUG_LETTERS
    ]


def read_poll_after_s(value: Any, *, default: float, most: float) -> float:
    """Seconds until the next poll, within limits; the default where none are said."""
    try:
        seconds = float(value) if value is not None else default
    except (TypeError, ValueError, OverflowError):
        return default
    if math.isnan(seconds):  # comparisons with it are all false: the poll would never be due
        return default
    return min(max(seconds, MIN_POLL_S), most)


def read_etag(value: str | None) -> str:
    """The ETag to send back, or none when it is longer than any of ours: servers refuse long
    headers, and the device would go on sending this one."""
    return value if value and len(value) <= MAX_ETAG_LETTERS else ""


def read_date(value: str) -> datetime | None:
    """The time in a `Date` header, in UTC; None when there is none in it."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # "-0000" comes without a zone (RFC 5322, 3.3).
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def find_address(answer: Mapping[str, Any], sha256: str, server_url: str) -> str:
    """Where the answer says that the file of this digest lies.

    Raises:
        DownloadError: it says nothing of it, or something that is no address.
    """
    rows = answer.get("files")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("sha256") == sha256:
            return join_address(server_url, row.get("url"))
    if answer.get("sha256") == sha256:
        return join_address(server_url, answer.get("download_url"))
    raise DownloadError(f"the answer has no address for file {sha256[:12]}")


def join_address(base: str, address: Any) -> str:
    """`address` taken from `base`.

    Raises:
        DownloadError: no text, or text that no address can be made of.
    """
    if not isinstance(address, str):
        raise DownloadError(f"expected an address, got {describe(address)}")
    if not address.isascii():
        # RFC 3986, 2: the rest comes percent-encoded. Lone surrogates would fail in a log.
        raise DownloadError(f"no address: {address[:80]!a} has letters beyond ASCII")
    try:
        return urljoin(base, address)
    except ValueError as error:
        raise DownloadError(f"no address: {address[:80]!r}: {error}") from error


def describe(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:80]!r}"
