"""The life of a version, as a table: values in, values out."""

from django.db.models import TextChoices


class VersionState(TextChoices):
    """Where a version stands; see `TRANSITIONS` for the ways between."""

    DRAFT = "draft", "Draft"
    VALIDATING = "validating", "Validating"
    UNCLEAR = "unclear", "Unclear"
    READY = "ready", "Ready"
    APPROVED = "approved", "Approved"
    DEPRECATED = "deprecated", "Deprecated"
    YANKED = "yanked", "Yanked"
    REJECTED = "rejected", "Rejected"


TRANSITIONS: dict[str, frozenset[str]] = {
    VersionState.DRAFT: frozenset({VersionState.VALIDATING}),
    VersionState.VALIDATING: frozenset(
        {VersionState.READY, VersionState.REJECTED, VersionState.UNCLEAR}
    ),
    # What the outputs mean is asked; the answer is validated.
    VersionState.UNCLEAR: frozenset({VersionState.VALIDATING, VersionState.YANKED}),
    # Back while nobody relies on it: what the outputs mean is put right.
    VersionState.READY: frozenset(
        {VersionState.APPROVED, VersionState.YANKED, VersionState.VALIDATING}
    ),
    VersionState.APPROVED: frozenset({VersionState.DEPRECATED, VersionState.YANKED}),
    VersionState.DEPRECATED: frozenset({VersionState.APPROVED, VersionState.YANKED}),
    VersionState.YANKED: frozenset(),
    VersionState.REJECTED: frozenset(),
}

DEPLOYABLE_STATES = frozenset({VersionState.APPROVED, VersionState.DEPRECATED})
# What no device has ever been offered, nor checked to the end.
NEVER_RAN = frozenset(
    {VersionState.DRAFT, VersionState.VALIDATING, VersionState.UNCLEAR, VersionState.REJECTED}
)
TERMINAL_STATES = frozenset({VersionState.YANKED, VersionState.REJECTED})
# Everything but notes, tags and state is immutable in these; a version that is only ready may still
# go back, to have said what its outputs mean.
FROZEN_STATES = frozenset(
    {
        VersionState.READY,
        VersionState.APPROVED,
        VersionState.DEPRECATED,
        VersionState.YANKED,
        VersionState.REJECTED,
    }
)
# What its outputs mean may be said anew in these: no deployment can name the version yet.
CORRECTABLE_STATES = frozenset({VersionState.UNCLEAR, VersionState.READY})
# What a person may ask for; the rest is the outcome of validation.
PERSON_TARGETS = frozenset({VersionState.APPROVED, VersionState.DEPRECATED, VersionState.YANKED})


def can_move(current: str, to: str) -> bool:
    """True when a version in `current` may go to `to`."""
    return to in TRANSITIONS.get(current, frozenset())
