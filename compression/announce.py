"""Which ends of compression jobs are told to the world outside."""

from __future__ import annotations

from typing import Any

from compression.states import JobState
from registry.events import Event, Level, declare_kinds, tell_audits_of
from registry.models import AuditEvent

KINDS = {
    "job.done": "A compression job made a variant that passed its gates.",
    "job.failed": "A compression job ended without a variant.",
}


def connect() -> None:
    """Registers what this app tells; once, when the app is ready."""
    declare_kinds(KINDS)
    tell_audits_of("compression.job", tell_job)


def tell_job(audit: AuditEvent, job: Any) -> Event | None:
    """How a job ended; what a person cancelled is told to nobody."""
    state = audit.details.get("state")
    if audit.action != "compression.ended" or state == JobState.CANCELLED:
        return None
    is_done = state == JobState.PASSED
    return Event(
        kind="job.done" if is_done else "job.failed",
        level=Level.INFO if is_done else Level.WARNING,
        summary=audit.summary,
        at=audit.at,
        actor=audit.actor,
        model=job.version.model.slug,
        path=job.get_absolute_url(),
        details={
            "job": str(job.pk),
            "version": job.version.version,
            "variant": job.variant_name,
            "state": state,
            "error": audit.details.get("error", ""),
        },
    )
