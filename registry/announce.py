"""Which decisions of the registry are told to the world outside."""

from __future__ import annotations

from typing import Any

from registry.events import Event, Level, declare_kinds, tell_audits_of
from registry.models import AuditEvent

_VERSIONS = {
    "version.validated": ("version.ready", Level.INFO),
    "version.rejected": ("version.rejected", Level.WARNING),
    "version.approved": ("version.released", Level.INFO),
    "version.deprecated": ("version.deprecated", Level.WARNING),
    "version.yanked": ("version.yanked", Level.CRITICAL),
}
KINDS = {
    "version.ready": "An uploaded version passed validation and waits for approval.",
    "version.rejected": "An uploaded version did not pass validation.",
    "version.released": "A person approved a version: it may be deployed.",
    "version.deprecated": "A version is to be moved away from.",
    "version.yanked": "A version was withdrawn from all devices.",
    "alias.moved": "An alias names another version.",
    "key.changed": "A root of trust, a delegation, or signatures of releases changed.",
}


def connect() -> None:
    """Registers what this app tells; once, when the app is ready."""
    declare_kinds(KINDS)
    tell_audits_of("registry.version", tell_version)
    tell_audits_of("registry.alias", tell_alias)
    tell_audits_of("registry.trustmetadata", tell_trust)


def tell_version(audit: AuditEvent, version: Any) -> Event | None:
    """What happened to a version that others wait for."""
    if audit.action not in _VERSIONS:
        return None
    kind, level = _VERSIONS[audit.action]
    return Event(
        kind=kind,
        level=level,
        summary=audit.summary,
        at=audit.at,
        actor=audit.actor,
        model=version.model.slug,
        path=version.get_absolute_url(),
        details={"version": version.version, "reason": audit.details.get("reason", "")},
    )


def tell_alias(audit: AuditEvent, alias: Any) -> Event | None:
    """An alias that was moved."""
    if audit.action != "alias.moved":
        return None
    return Event(
        kind="alias.moved",
        summary=audit.summary,
        at=audit.at,
        actor=audit.actor,
        model=alias.model.slug,
        path=alias.version.get_absolute_url(),
        details={"alias": alias.name, "version": alias.version.version},
    )


def tell_trust(audit: AuditEvent, metadata: Any) -> Event | None:
    """Any change of which keys devices believe."""
    return Event(
        kind="key.changed",
        level=Level.WARNING,
        summary=audit.summary,
        at=audit.at,
        actor=audit.actor,
        details={"change": audit.action.removeprefix("trust.")},
    )
