"""The life of a version, as a table: values in, values out."""

from django.db.models import TextChoices


class VersionState(TextChoices):
    """Where a version stands; see `TRANSITIONS` for the ways between."""

    DRAFT = "draft", "Draft"
    VALIDATING = "validating", "Validating"
    READY = "ready", "Ready"
    APPROVED = "approved", "Approved"
    DEPRECATED = "deprecated", "Deprecated"
    YANKED = "yanked", "Yanked"
    REJECTED = "rejected", "Rejected"


TRANSITIONS: dict[str, frozenset[str]] = {
    VersionState.DRAFT: frozenset({VersionState.VALIDATING}),
    VersionState.VALIDATING: frozenset({VersionState.READY, VersionState.REJECTED}),
    VersionState.READY: frozenset({VersionState.APPROVED, VersionState.YANKED}),
    VersionState.APPROVED: frozenset({VersionState.DEPRECATED, VersionState.YANKED}),
    VersionState.DEPRECATED: frozenset({VersionState.APPROVED, VersionState.YANKED}),
    VersionState.YANKED: frozenset(),
    VersionState.REJECTED: frozenset(),
}

DEPLOYABLE_STATES = frozenset({VersionState.APPROVED, VersionState.DEPRECATED})
TERMINAL_STATES = frozenset({VersionState.YANKED, VersionState.REJECTED})
# Everything but notes, tags and state is immutable in these.
FROZEN_STATES = frozenset(
    {
        VersionState.READY,
        VersionState.APPROVED,
        VersionState.DEPRECATED,
        VersionState.YANKED,
        VersionState.REJECTED,
    }
)
# What a person may ask for; the rest is the outcome of validation.
PERSON_TARGETS = frozenset({VersionState.APPROVED, VersionState.DEPRECATED, VersionState.YANKED})


def can_move(current: str, to: str) -> bool:
    """True when a version in `current` may go to `to`."""
    return to in TRANSITIONS.get(current, frozenset())
