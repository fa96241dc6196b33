"""What an incident's page shows: its course from before the onset, and the rollouts beside it."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from fleet.models import RolloutEvent
from ingest.models import DriftEvaluation, Incident

WINDOWS_BEFORE = 24
MOST_SHOWN = 400
MOST_MARKERS = 50
_MARKED = {
    "start": "begins",
    "advance": "next stage",
    "pause": "pauses",
    "resume": "resumes",
    "abort": "is aborted",
    "complete": "is complete",
    "roll_back": "is rolled back",
}


def incident_course(incident: Incident) -> list[DriftEvaluation]:
    """Judgements of the incident's metric and slice, from a day of windows before its onset on.

    A slice of several values has no judgements of its own; those of the whole fleet stand in.
    """
    before = WINDOWS_BEFORE * timedelta(seconds=settings.AVIARY_WINDOW_SECONDS)
    end = incident.resolved_at or incident.updated_at
    found = DriftEvaluation.objects.filter(
        version_id=incident.version_id,
        variant_key=incident.variant_key,
        metric=incident.metric,
        slice="all" if ", " in incident.slice else incident.slice,
        period_end__gte=incident.began_at - before,
        period_end__lte=end + before,
    )
    return list(found.order_by("period_end").defer("details", "rule")[:MOST_SHOWN])


def rollout_markers(model_id: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """What rollouts of the model did between two times: `at` and a few words, oldest first."""
    events = RolloutEvent.objects.filter(
        rollout__deployment__model_id=model_id, at__gte=start, at__lte=end
    ).select_related("rollout__target_version")
    return [
        {
            "at": event.at.isoformat(),
            "words": f"{event.rollout.target_version.version} {_words(event)}",
        }
        for event in events.order_by("at")[:MOST_MARKERS]
    ]


def _words(event: RolloutEvent) -> str:
    words = _MARKED.get(event.action, event.action.replace("_", " "))
    return f"{words} {event.stage_index + 1}" if event.action == "advance" else words


def course_chart(rows: list[DriftEvaluation]) -> list[dict[str, Any]]:
    """Points of the chart of a metric over time."""
    return [
        {
            "at": row.period_end.isoformat(),
            "value": row.value,
            "threshold": row.threshold,
            "critical": row.threshold_critical,
            "status": row.get_status_display(),
            "n": row.n,
        }
        for row in rows
    ]
