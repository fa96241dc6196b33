"""Named questions about versions and audit events, asked in one place."""

from typing import Any, NoReturn

from django.db import models

from registry.states import DEPLOYABLE_STATES, VersionState


class VersionQuerySet(models.QuerySet[Any]):
    """Versions by where they stand."""

    def deployable(self) -> "VersionQuerySet":
        """Versions that a deployment may name."""
        return self.filter(state__in=DEPLOYABLE_STATES)

    def awaiting_validation(self) -> "VersionQuerySet":
        """Versions whose validation has not ended."""
        return self.filter(state=VersionState.VALIDATING)


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """Rows that are only ever added."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError("Audit events are append-only: they cannot be updated.")

    def delete(self) -> NoReturn:
        raise TypeError("Audit events are append-only: they cannot be deleted.")
