"""Filters that every list shares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django_filters.fields import IsoDateTimeField


class TimeField(IsoDateTimeField):
    """A time in UTC: PostgreSQL refuses offsets of more than sixteen hours, and years past 9999."""

    def to_python(self, value: Any) -> datetime | None:
        found = super().to_python(value)
        if found is None:
            return None
        try:
            return found.astimezone(UTC)
        except OverflowError as error:
            raise forms.ValidationError("expected a time between the years 1 and 9999") from error


class TimeFilter(django_filters.IsoDateTimeFilter):
    """ISO 8601, with or without an offset."""

    field_class = TimeField
