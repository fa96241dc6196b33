"""From what the server answers to what people read, and back; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aviary_client.rows import Version


def tell_variants(version: Version) -> list[dict[str, Any]]:
    """A row for each variant: what it weighs, how right it is, how fast."""
    return [
        {
            "version": version["version"],
            "variant": variant["name"],
            "state": version["state"],
            "size_bytes": sum(int(file["size_bytes"]) for file in variant["files"]),
            "accuracy": _number(variant["metrics"] or version["metrics"], "accuracy"),
            "latency_ms": _number(variant["metrics"], "latency_ms"),
            "manifest_sha256": variant["manifest_sha256"],
        }
        for variant in version["variants"]
    ]


def write_proposal(
    version: str, variants: Sequence[str] | None, reason: str, *, field: str = "stable_version"
) -> dict[str, Any]:
    """What is to be offered, as a body; what was not given is left out."""
    body: dict[str, Any] = {field: version}
    if variants is not None:
        body["variants"] = list(variants)
    if reason:
        body["reason"] = reason
    return body


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    """A metric that is a number, or an object with `value` or `p50`."""
    found = metrics.get(name)
    if isinstance(found, Mapping):
        found = found.get("value", found.get("p50"))
    return float(found) if isinstance(found, int | float) else None
