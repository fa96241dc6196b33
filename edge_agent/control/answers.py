"""Reads the hints in the server's answers: all that no signature covers.

A hint may be anything at all, and whoever wrote it may mean harm. So each is read by one function
here, which gives a value within limits or an error. A hint can cost time: nothing that it says
removes a file, changes what runs, or outlives the next honest answer. `docs/edge-agent.md` lists
every field of every answer with its limit.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from edge_agent.exceptions import DownloadError, NotTheServerError

MAX_MODELS = 64
MAX_SLUG_LETTERS = 128
MAX_ETAG_LETTERS = 256
MIN_POLL_S = 0.2
MAX_COUNT = 1 << 31
DIGEST = re.compile(r"[0-9a-f]{64}")


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


@dataclass(frozen=True)
class DeltaOffer:
    """A patch that the server says makes the new model file of an older one."""

    algorithm: str
    base_sha256: str
    sha256: str
    size_bytes: int
    address: str


def read_delta_offer(answer: Mapping[str, Any], *, server_url: str) -> DeltaOffer | None:
    """The offer of a patch in an assignment's answer; None where there is none, or half of one."""
    row = answer.get("delta")
    if not isinstance(row, dict):
        return None
    algorithm, size_bytes = row.get("algorithm"), row.get("size_bytes")
    digests = [row.get("base_sha256"), row.get("sha256")]
    if not isinstance(algorithm, str) or type(size_bytes) is not int or size_bytes <= 0:
        return None
    if not all(isinstance(text, str) and DIGEST.fullmatch(text) for text in digests):
        return None
    try:
        address = join_address(server_url, row.get("url"))
    except DownloadError:
        return None
    return DeltaOffer(algorithm[:40], str(digests[0]), str(digests[1]), size_bytes, address)


@dataclass(frozen=True)
class Receipt:
    """What became of the records of one batch; the three add up to all of them."""

    accepted: int
    duplicates: int
    rejected: int
    reason: str = ""
    """Why the first of the rejected ones was."""


def read_receipt(body: Any, *, sent: int) -> Receipt:
    """What the server says of a batch of `sent` records.

    Records are deleted on this word. So it has to account for each of them: a portal's
    `{"status": "ok"}` is no receipt.

    Raises:
        NotTheServerError: it is none, or leaves records out.
    """
    row = body if isinstance(body, dict) else {}
    counts = [row.get("accepted"), row.get("duplicates")]
    rejected = row.get("rejected")
    if (
        not all(type(count) is int and 0 <= count < MAX_COUNT for count in counts)
        or not isinstance(rejected, list)
        or sum(map(int, counts)) + len(rejected) < sent  # type: ignore[arg-type]
    ):
        raise NotTheServerError(f"expected a receipt for {sent} records, got {describe(body)}")
    accepted = min(int(counts[0] or 0), sent)
    duplicates = min(int(counts[1] or 0), sent - accepted)
    refused = min(len(rejected), sent - accepted - duplicates)
    return Receipt(accepted, duplicates, refused, str(rejected[0])[:200] if rejected else "")


def read_sampling_switch(body: Any) -> bool | None:
    """Whether this device may send samples, by an answer to telemetry; None where it is silent."""
    value = body.get("is_sampling_allowed") if isinstance(body, dict) else None
    return value if isinstance(value, bool) else None


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
        whole = urljoin(base, address)
        schemes = urlsplit(base).scheme, urlsplit(whole).scheme
    except ValueError as error:
        raise DownloadError(f"no address: {address[:80]!r}: {error}") from error
    if schemes[0] == "https" and schemes[1] != "https":
        # A plain request may be read and answered by anybody on the way, and may reach what trusts
        # this device for its place in the network: a router's page, another service on this host.
        raise DownloadError(f"expected an address of https, got {address[:80]!r}")
    return whole


def describe(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:80]!r}"
