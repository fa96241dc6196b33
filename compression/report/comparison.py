"""Measured variants of one version side by side, with the Pareto front marked. Pure.

Latency is compared as a ratio to FP32, which every job times in turns with its variant: figures of
different machines and hours then stand on one scale.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

#: In the order of the CSV; the page shows the same figures in fewer columns.
COMPARISON_FIELDS = (
    "name", "source_name", "state", "is_source", "is_on_front", "is_promotable", "why_not", "bytes",
    "compressed_bytes", "ratio", "accuracy", "accuracy_low", "accuracy_high", "samples",
    "accuracy_by_isa", "agreement_by_isa", "saturates_on", "requires_isa", "on_devices",
    "accuracy_drop_points", "agreement", "agreement_low", "agreement_high", "divergence_nats",
    "p50_ms", "p95_ms", "p99_ms", "control_p50_ms", "control_p95_ms", "control_p99_ms",
    "latency_runs", "relative_p50", "parameters", "macs", "zero_share", "excluded",
    "collapse_flags", "measured_on", "cpu_flags", "threads", "batch", "seed", "libraries",
    "passes_sha256", "passes",
    "evaluation_seconds", "sha256", "source_sha256", "recipe_sha256", "calibration_sha256",
    "evaluation_sha256", "identity", "measured_at", "job",
)  # fmt: skip
CANDIDATE_FIELDS = (
    "name", "bytes", "accuracy", "accuracy_drop_points", "agreement", "p50_ms", "p95_ms",
    "held_out_accuracy", "held_out_drop_points", "held_out_agreement", "judged_on",
    "is_feasible", "is_on_front", "reason",
)  # fmt: skip
LAYER_FIELDS = ("layer", "zero_share", "source_zero_share")
# ONNX Runtime's quantizer renames the nodes that it replaces.
_QUANTIZED = "_quant"


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
        # FP32 is the same everywhere.
        "accuracy_by_isa": dict.fromkeys(row["accuracy_by_isa"], row["accuracy"]),
        "agreement_by_isa": dict.fromkeys(row["agreement_by_isa"], 1.0),
        "saturates_on": [],
        "requires_isa": [],
        "divergence_nats": 0.0,
        "passes": [],
        "excluded": {},
    }


def variant_row(report: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """The row of what a job has made."""
    return _row(report, report["variant"], sha256=report["passes"][-1]["sha256"], **extra)


def rebase_rows(control: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, oldest first, with size, accuracy and speed against FP32 whatever they came from.

    A job that started from another variant was timed in turns with that one: its ratio is chained
    through the row of its source, and unknown where there is none. Agreement and divergence stay
    against the source.
    """
    speeds = {control["name"]: 1.0}
    for row in rows:
        if row["source_name"] != control["name"]:
            before = speeds.get(row["source_name"])
            relative = row["relative_p50"]
            row["relative_p50"] = before and relative and round(before * relative, 4)
            row["ratio"] = round(control["bytes"] / row["bytes"], 3)
            row["accuracy_drop_points"] = None
            is_same_data = row["evaluation_sha256"] == control["evaluation_sha256"]
            if is_same_data and None not in (control["accuracy"], row["accuracy"]):
                lost = 100.0 * (control["accuracy"] - row["accuracy"])
                row["accuracy_drop_points"] = round(lost, 4)
        speeds.setdefault(row["name"], row["relative_p50"])
    return rows


def figure_by_set(report: Mapping[str, Any], name: str) -> dict[str, float | None]:
    """`accuracy` or `agreement` of the variant by instruction set; None where it is not known.

    `avx2` and `avx512` stand for processors without VNNI. Empty for reports that do not tell.
    """
    figures: dict[str, float | None] = {}
    for kind in report.get("instruction_sets") or []:
        value = kind[name]
        figure = value["value"] if isinstance(value, Mapping) else value
        figures |= dict.fromkeys(kind["sets"], figure)
    return figures


def saturating_sets(report: Mapping[str, Any]) -> list[str]:
    """The instruction sets on which sums of 16 bits are cut; empty where none can be."""
    kinds = report.get("instruction_sets") or []
    return [name for kind in kinds if kind["is_saturating"] for name in kind["sets"]]


def layer_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The share of zero weights of every layer, beside that of the same layer of the source.

    None stands where one of the two has no layer of that name.
    """
    source, variant = dict(report["source"]["sparsity"]), report["variant"]["sparsity"]
    rows = []
    for name, share in sorted(variant.items()):
        before = source.pop(name, None)
        if before is None:
            before = source.pop(name.removesuffix(_QUANTIZED), None)
        rows.append({"layer": name, "zero_share": share, "source_zero_share": before})
    gone = [
        {"layer": name, "zero_share": None, "source_zero_share": share}
        for name, share in sorted(source.items())
    ]
    return rows + gone


def mark_front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `is_on_front`: none is as good in size, quality, speed and better in one.

    A collapsed model is never on the front, and equal rows share a place on it.
    """
    able = [row for row in rows if row["state"] != "collapsed"]
    for row in rows:
        row["is_on_front"] = row in able and not any(_dominates(other, row) for other in able)
    return rows


def mean_sparsity(sparsity: Mapping[str, float]) -> float | None:
    """The plain mean over layers of their shares of zero weights; None without layers."""
    values = list(sparsity.values())
    return round(sum(values) / len(values), 4) if values else None


def pick_fields(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """The rows as lists in the order of `fields`, for CSV; what a row lacks is None."""
    return ([_flatten(row.get(name)) for name in fields] for row in rows)


def _flatten(value: Any) -> Any:
    """A value for one cell: parts of lists and mappings are set apart by semicolons."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {part}" for key, part in value.items())
    if isinstance(value, list):
        return "; ".join(str(_flatten(part)).replace("; ", ", ") for part in value)
    return value


def _row(report: Mapping[str, Any], side: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    accuracy, agreement = side.get("accuracy") or {}, side.get("agreement") or {}
    latency, control = side["latency"], report["source"]["latency"]
    environment = report.get("environment") or {}
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
        "accuracy_by_isa": figure_by_set(report, "accuracy"),
        "agreement_by_isa": figure_by_set(report, "agreement"),
        "saturates_on": saturating_sets(report),
        "requires_isa": report.get("requires_isa") or [],
        "agreement": agreement.get("value"),
        "agreement_low": agreement.get("low"),
        "agreement_high": agreement.get("high"),
        "divergence_nats": side.get("divergence_nats"),
        **{f"{name}_ms": latency[f"{name}_ms"] for name in ("p50", "p95", "p99")},
        **{f"control_{name}_ms": control[f"{name}_ms"] for name in ("p50", "p95", "p99")},
        "latency_runs": latency.get("runs"),
        "relative_p50": round(latency["p50_ms"] / control["p50_ms"], 4)
        if control["p50_ms"]
        else None,
        "parameters": side.get("parameters"),
        "macs": side.get("macs"),
        "zero_share": mean_sparsity(side.get("sparsity") or {}),
        "excluded": report.get("excluded", {}),
        "on_devices": [],
        "collapse_flags": side.get("collapse_flags", []),
        "measured_on": environment.get("cpu") or environment.get("machine", ""),
        "cpu_flags": environment.get("cpu_flags", []),
        "libraries": environment.get("libraries", {}),
        "passes_sha256": environment.get("passes_sha256"),
        "seed": environment.get("seed"),
        "passes": [
            {"name": note["pass"], "seconds": note["seconds"], "bytes": note["bytes"]}
            for note in report["passes"]
        ],
        "evaluation_seconds": report.get("evaluation_seconds"),
        **extra,
    }


def _dominates(other: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    mine, theirs = _costs(row), _costs(other)
    return all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine


def _costs(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Bytes, points lost, share of FP32's latency: all against FP32 in the row's own job.

    Accuracies of different evaluation sets do not compare; what each lost against FP32 on its own
    does. Without it the answers that changed bound it: no more of them can have become wrong.
    """
    lost = row.get("accuracy_drop_points")
    if lost is None:
        lost = 100.0 * (1.0 - (row["agreement"] or 0.0))
    return row["bytes"], lost, row["relative_p50"] or 1.0
