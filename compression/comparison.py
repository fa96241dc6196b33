"""Measured variants of one version side by side, with the Pareto front marked. Pure.

Latency is compared as a ratio to FP32, which every job times in turns with its variant: figures of
different machines and hours then stand on one scale.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

#: In the order of the table and of its CSV.
COMPARISON_FIELDS = (
    "name", "state", "is_source", "is_on_front", "is_promotable", "why_not", "bytes",
    "compressed_bytes", "ratio", "accuracy", "accuracy_low", "accuracy_high", "samples",
    "accuracy_drop_points", "agreement", "divergence_nats", "p50_ms", "p95_ms", "p99_ms",
    "latency_runs", "relative_p50", "parameters", "macs", "zero_share", "measured_on", "threads",
    "measured_at", "job",
)  # fmt: skip
CANDIDATE_FIELDS = (
    "name", "bytes", "accuracy", "accuracy_drop_points", "agreement", "p50_ms", "p95_ms",
    "judged_on", "is_feasible", "is_on_front", "reason",
)  # fmt: skip


def source_row(report: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """The row of FP32 itself, from any report of the version."""
    row = _row(report, report["source"], **extra)
    return {
        **row,
        "is_source": True,
        "ratio": 1.0,
        "relative_p50": 1.0,
        "accuracy_drop_points": 0.0 if row["accuracy"] is not None else None,
        "agreement": 1.0,
        "divergence_nats": 0.0,
    }


def variant_row(report: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """The row of what a job has made."""
    return _row(report, report["variant"], **extra)


def mark_front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `is_on_front`: none is as good in size, quality, speed and better in one.

    A collapsed model is never on the front, and equal rows share a place on it.
    """
    able = [row for row in rows if row["state"] != "collapsed"]
    for row in rows:
        row["is_on_front"] = row in able and not any(_dominates(other, row) for other in able)
    return rows


def _row(report: Mapping[str, Any], side: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    accuracy, agreement = side.get("accuracy") or {}, side.get("agreement") or {}
    latency = side["latency"]
    environment = report.get("environment") or {}
    control = report["source"]["latency"]["p50_ms"]
    return {
        "is_source": False,
        "is_on_front": False,
        "bytes": side["bytes"],
        "compressed_bytes": side["compressed_bytes"],
        "ratio": report["ratio"],
        "accuracy": accuracy.get("value"),
        "accuracy_low": accuracy.get("low"),
        "accuracy_high": accuracy.get("high"),
        "samples": report["samples"],
        "accuracy_drop_points": report["accuracy_drop_points"],
        "agreement": agreement.get("value"),
        "divergence_nats": side.get("divergence_nats"),
        "p50_ms": latency["p50_ms"],
        "p95_ms": latency["p95_ms"],
        "p99_ms": latency["p99_ms"],
        "latency_runs": latency.get("runs"),
        "relative_p50": round(latency["p50_ms"] / control, 4) if control else None,
        "parameters": side.get("parameters"),
        "macs": side.get("macs"),
        "zero_share": mean_sparsity(side.get("sparsity") or {}),
        "measured_on": environment.get("cpu") or environment.get("machine", ""),
        **extra,
    }


def mean_sparsity(sparsity: Mapping[str, float]) -> float | None:
    """The plain mean over layers of their shares of zero weights; None without layers."""
    values = list(sparsity.values())
    return round(sum(values) / len(values), 4) if values else None


def _dominates(other: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    mine, theirs = _costs(row), _costs(other)
    return all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine


def _costs(row: Mapping[str, Any]) -> tuple[float, float, float]:
    quality = row["agreement"] if row["accuracy"] is None else row["accuracy"]
    return row["bytes"], -(quality or 0.0), row["relative_p50"] or 1.0


def draw_points(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the Pareto picture needs of rows of a comparison or candidates of a search."""
    listed = list(rows)
    control = next((row for row in listed if row.get("is_source") or row["name"] == "fp32"), None)
    is_labelled = any(row["accuracy"] is not None for row in listed)
    points = []
    for row in listed:
        relative = row.get("relative_p50")
        if relative is None and control and control["p50_ms"] and row["p50_ms"]:
            relative = row["p50_ms"] / control["p50_ms"]
        points.append(
            {
                "name": row["name"],
                "bytes": row["bytes"],
                "quality": row["accuracy"] if is_labelled else row["agreement"],
                "measure": "accuracy" if is_labelled else "agreement with FP32",
                "low": row.get("accuracy_low"),
                "high": row.get("accuracy_high"),
                "relative_p50": relative,
                "p50_ms": row["p50_ms"],
                "is_on_front": row["is_on_front"],
                "is_able": row.get("is_feasible", row.get("is_promotable", True)),
            }
        )
    return points


def pick_fields(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """The rows as lists in the order of `fields`; what a row lacks is None."""
    return ([row.get(name) for name in fields] for row in rows)
