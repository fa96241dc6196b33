"""What a device said of itself, made ready for its page. Pure: reports in, rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fleet.admin.device_drift import metric_unit
from fleet.sparklines import read_number, sparkline

#: Resource to its name for people, its unit, and the scale of its drawing: None for its own range.
RESOURCES: dict[str, tuple[str, str, float | None]] = {
    "cpu_percent": ("Processor", "%", 100.0),
    "memory_percent": ("Memory", "%", 100.0),
    "disk_free_mb": ("Free disk", "MB", None),
    "temperature_c": ("Temperature", "°C", None),
    "network_received_mb": ("Network received", "MB", None),
    "network_sent_mb": ("Network sent", "MB", None),
    "process_rss_mb": ("The agent's memory", "MB", None),
}
WIDTH, HEIGHT = 180, 28
EVENT_ROWS = 20


class Report(NamedTuple):
    """One report's facts, whatever row they came from."""

    received_at: datetime
    resources: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]


def resource_rows(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Each numeric resource of the latest report with its course; `reports` are oldest first."""
    if not reports:
        return []
    rows = []
    known = [*RESOURCES, *sorted(set(reports[-1].resources) - set(RESOURCES))]
    for name in known:
        values = [
            value
            for report in reports
            if (value := read_number(report.resources, name)) is not None
        ]
        if not values:
            continue
        title, unit, top = RESOURCES.get(name, (name.replace("_", " "), "", None))
        rows.append(
            {
                "key": name,
                "name": title,
                "unit": unit,
                "value": values[-1],
                "low": min(values),
                "high": max(values),
                "n": len(values),
                "points": sparkline(values, width=WIDTH, height=HEIGHT, top=top),
            }
        )
    return rows


def event_rows(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The newest events of all reports in words, newest first; `reports` are oldest first."""
    rows = []
    for report in reversed(reports):
        for event in reversed(report.events):
            rows.append({"at": report.received_at, **describe_event(event)})
            if len(rows) == EVENT_ROWS:
                return rows
    return rows


def describe_event(event: Mapping[str, Any]) -> dict[str, str]:
    """State, colour and words of an event as the agent sends it; unknown kinds as they are."""
    kind = str(event.get("kind") or event.get("code") or "event")
    subject, _, state = kind.rpartition("_")
    colour = {"firing": "danger", "resolved": "success"}.get(state, "info")
    metric = str(event.get("metric", ""))
    figures = f"{_short(event.get('value'))}, threshold {_short(event.get('threshold'))}"
    if subject == "drift" and colour != "info":
        words = f"drift of {event.get('model') or 'a model'}: {metric} {figures}"
    elif subject == "resource" and colour != "info":
        name, unit, _ = RESOURCES.get(metric, (metric, "", None))
        words = f"{name}: {figures} {unit}"
    else:
        rest = {key: value for key, value in event.items() if key not in ("kind", "at")}
        words = ", ".join(f"{key}: {value}" for key, value in rest.items())
        state = kind.replace("_", " ")
    return {"state": state, "colour": colour, "words": words[:300]}


def incident_words(kind: str, metric: str) -> dict[str, str]:
    """Name and unit of what an incident is about."""
    if kind == "resource":
        name, unit, _ = RESOURCES.get(metric, (metric, "", None))
        return {"name": name, "unit": unit}
    return {"name": metric, "unit": metric_unit(metric)}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value or "unknown")[:40]


def provider_rows(providers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per model: the execution providers asked for, those that run, and why they differ."""
    if set(providers) & {"requested", "active"}:
        providers = {"": providers}
    rows = []
    for slug, entry in sorted(providers.items()):
        if not isinstance(entry, Mapping):
            continue
        fallbacks = entry.get("fallbacks")
        reasons = [
            " · ".join(str(row.get(key)) for key in ("provider", "kind", "detail") if row.get(key))
            for row in (fallbacks if isinstance(fallbacks, list) else [])
            if isinstance(row, Mapping)
        ]
        if entry.get("refusal"):
            reasons.append(f"refused to run: {entry['refusal']}")
        rows.append(
            {
                "model": slug,
                "requested": _words(entry.get("requested")),
                "active": _words(entry.get("active")),
                "reasons": [reason[:300] for reason in reasons[:8]],
            }
        )
    return rows


def _words(value: Any) -> list[str]:
    items: Iterable[Any] = value if isinstance(value, list) else []
    return [str(item) for item in items]
