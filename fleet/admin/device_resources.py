"""What a device said of itself, made ready for its page. Pure: reports in, rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

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
            value for report in reports if (value := _number(report.resources, name)) is not None
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
    word = "raised" if kind.endswith("_raised") else "cleared" if kind.endswith("_cleared") else ""
    colour = {"raised": "danger", "cleared": "success"}.get(word, "info")
    metric = str(event.get("metric", "")).replace("_", " ")
    if kind.startswith("drift_"):
        value = f"PSI {event['psi']}" if "psi" in event else f"{event.get('value', '?')}"
        words = f"drift of {metric}, {value}"
        if event.get("model"):
            words += f", model {event['model']}"
    elif kind.startswith("resource_"):
        words = f"{metric} at {event.get('value', '?')}, threshold {event.get('limit', '?')}"
    else:
        rest = {key: value for key, value in event.items() if key not in ("kind", "at")}
        words = ", ".join(f"{key}: {value}" for key, value in rest.items())
    return {"state": word or kind.replace("_", " "), "colour": colour, "words": words[:300]}


def drift_rows(drift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per model: whether the device itself sees drift, over how many records, and its scores."""
    rows = []
    for slug, entry in sorted(drift.items()):
        if not isinstance(entry, Mapping):
            continue
        scores = {
            str(name): float(value)
            for name, value in entry.items()
            if name not in ("is_raised", "records") and _number(entry, name) is not None
        }
        ranked = sorted(scores.items(), key=lambda item: -item[1])
        rows.append(
            {
                "model": slug,
                "is_raised": entry.get("is_raised") is True,
                "records": entry.get("records", 0),
                "scores": ranked[:6],
            }
        )
    return rows


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


def sparkline(
    values: Sequence[float], *, width: int = 90, height: int = 20, top: float | None = None
) -> str:
    """Points of an SVG polyline; from 0 to `top`, else over the values' own range; empty below
    two values."""
    if len(values) < 2:
        return ""
    low, high = (0.0, max(top, max(values))) if top is not None else (min(values), max(values))
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    return " ".join(
        f"{index * step:.1f},{height - 2 - (value - low) / span * (height - 4):.1f}"
        for index, value in enumerate(values)
    )


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value is not None else None


def _words(value: Any) -> list[str]:
    items: Iterable[Any] = value if isinstance(value, list) else []
    return [str(item) for item in items]
