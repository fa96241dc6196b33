"""Asks a Prometheus server for the value of a query; bounded in time, bytes and addresses."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from django.conf import settings

from ingest.exceptions import PrometheusError
from registry.outbound import AddressRefusedError, OutboundError, resolve_once

MOST_BYTES = 1024**2
MOST_SAMPLES = 5_000
#: What reading of a foreign answer may raise.
_UNREADABLE = (
    msgspec.MsgspecError, KeyError, IndexError, TypeError, ValueError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One number of an answer, finite, with its labels."""

    labels: Mapping[str, str]
    value: float


def query_prometheus(expression: str, at: datetime) -> list[Sample]:
    """The numbers that `expression` has at a moment; those that are none are left out.

    Raises:
        PrometheusError: no server is set, it may not be reached, did not answer in time, or
            answered with something else than numbers.
    """
    url = settings.AVIARY_PROMETHEUS_URL
    if not url:
        raise PrometheusError("AVIARY_PROMETHEUS_URL names no server")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PrometheusError("AVIARY_PROMETHEUS_URL is no http or https address")
    target = f"{parts.path.rstrip('/')}/api/v1/query?" + urlencode(
        {"query": expression, "time": f"{at.timestamp():.3f}"}
    )
    deadline = time.monotonic() + settings.AVIARY_PROMETHEUS_TIMEOUT_SECONDS
    pool = _connect(parts.scheme, parts.hostname, parts.port)
    try:
        answer = pool.request(
            "GET",
            target,
            headers={"Host": parts.netloc.rpartition("@")[2]},
            redirect=False,
            retries=False,
            preload_content=False,
        )
        body = _read(answer, deadline)
    except urllib3.exceptions.HTTPError as error:
        raise PrometheusError(f"Prometheus did not answer: {type(error).__name__}") from error
    finally:
        pool.close()
    if answer.status != 200:
        raise PrometheusError(f"Prometheus answered {answer.status}, not 200")
    return _samples(body)


def _connect(scheme: str, host: str, port: int | None) -> urllib3.HTTPConnectionPool:
    """A connection to an address that was looked at: a name may not change to another between."""
    number = port or (443 if scheme == "https" else 80)
    try:
        address = resolve_once(host, number, is_private_allowed=settings.AVIARY_PROMETHEUS_PRIVATE)
    except AddressRefusedError as error:
        raise PrometheusError(f"{error}; AVIARY_PROMETHEUS_PRIVATE=1 allows it") from error
    except OutboundError as error:
        raise PrometheusError(str(error)) from error
    timeout = urllib3.Timeout(total=settings.AVIARY_PROMETHEUS_TIMEOUT_SECONDS)
    if scheme == "https":
        return urllib3.HTTPSConnectionPool(
            address, number, timeout=timeout, server_hostname=host, assert_hostname=host
        )
    return urllib3.HTTPConnectionPool(address, number, timeout=timeout)


def _read(answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    body = bytearray()
    for chunk in answer.stream(64 * 1024):
        body += chunk
        if len(body) > MOST_BYTES:
            raise PrometheusError(f"Prometheus answered more than {MOST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise PrometheusError("Prometheus answered too slowly")
    return bytes(body)


def _samples(body: bytes) -> list[Sample]:
    try:
        document: Any = msgspec.json.decode(body)
        data = document["data"]
        kind, result = data["resultType"], data["result"]
        rows = [{"value": result}] if kind == "scalar" else result
        if kind not in ("scalar", "vector"):
            raise PrometheusError(f"The query gives a {kind}; a scalar or a vector is needed")
        if len(rows) > MOST_SAMPLES:
            raise PrometheusError(
                f"The query gives {len(rows):,} numbers; {MOST_SAMPLES:,} at most"
            )
        found = [
            Sample(
                {str(name): str(value) for name, value in row.get("metric", {}).items()},
                float(row["value"][1]),
            )
            for row in rows
        ]
    except (
        msgspec.MsgspecError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise PrometheusError("Prometheus answered with no result of a query") from error
    return [sample for sample in found if math.isfinite(sample.value)]
