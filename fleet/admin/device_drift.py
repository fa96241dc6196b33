"""Drift as a device judges it, made ready for its page. Pure: reports in, rows out.

The words are those of the drift pages, which judge the fleet: the same metrics, the same states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.sparklines import read_number, sparkline

#: State as the agent sends it, to its word for people and its colour.
STATES: dict[str, tuple[str, str]] = {
    "firing": ("Firing", "danger"),
    "healthy": ("Healthy", "success"),
    "insufficient": ("Insufficient data", "info"),
    "no_reference": ("No reference", "info"),
    "off": ("Switched off", "info"),
}
#: Start of a metric's name to its unit and what it asks.
METRICS: dict[str, tuple[str, str]] = {
    "prediction_psi": ("PSI", "has the mix of predicted classes moved away from the baseline's?"),
    "confidence_psi": ("PSI", "has the confidence moved away from the baseline's?"),
    "feature_psi": ("PSI", "has this feature of the inputs moved away from the baseline's?"),
    "feature_shift": (
        "σ",
        "by how many standard deviations of the baseline has this feature's mean moved?",
    ),
    "latency_mean_ratio": (
        "×",
        "mean latency over that of the first records of the release on this device",
    ),
}
METRIC_ROWS = 24


def metric_unit(metric: str) -> str:
    """The unit of a metric's values; empty for one that is not known here."""
    return METRICS.get(metric.split(":")[0], ("", ""))[0]


def drift_rows(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per model of the newest report: its state, and its metrics with their course, worst first.

    Args:
        reports: the `drift` part of each report, oldest first.
    """
    rows = []
    for slug, entry in sorted((reports[-1] if reports else {}).items()):
        state = str(entry.get("status")) if isinstance(entry, Mapping) else ""
        if state not in STATES:
            continue
        past = [report.get(slug) for report in reports]
        metrics = _metrics(entry.get("metrics"), past)
        label, colour = STATES[state]
        rows.append(
            {
                "model": slug,
                "state": state,
                "label": label,
                "colour": colour,
                "records": int(read_number(entry, "records") or 0),
                "min_records": int(read_number(entry, "min_records") or 0),
                "metrics": metrics[:METRIC_ROWS],
            }
        )
    return rows


def _metrics(metrics: Any, past: Iterable[Any]) -> list[dict[str, Any]]:
    series = [
        entry["metrics"]
        for entry in past
        if isinstance(entry, Mapping) and isinstance(entry.get("metrics"), Mapping)
    ]
    rows = []
    for name, figures in metrics.items() if isinstance(metrics, Mapping) else ():
        value = read_number(figures, "value") if isinstance(figures, Mapping) else None
        threshold = read_number(figures, "threshold") if isinstance(figures, Mapping) else None
        if value is None or not threshold:
            continue
        unit, question = METRICS.get(str(name).split(":")[0], ("", ""))
        values = [
            number
            for report in series
            if isinstance(report.get(name), Mapping)
            and (number := read_number(report[name], "value")) is not None
        ]
        rows.append(
            {
                "name": str(name),
                "unit": unit,
                "question": question,
                "value": value,
                "threshold": threshold,
                "resolves_below": read_number(figures, "resolves_below"),
                "is_past": value >= threshold,
                "n": len(values),
                "low": min(values),
                "high": max(values),
                "points": sparkline(values, width=120, height=22, top=threshold),
                # The drawing's height stands for the threshold, or for what is above it.
                "line_y": round(20 - threshold / max(threshold, *values) * 18, 1),
            }
        )
    return sorted(rows, key=lambda row: -row["value"] / row["threshold"])
