"""The agent's published wheels: what new devices install."""

from __future__ import annotations

from django.contrib import admin

from fleet.models import AgentWheel
from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import digest_column, size_column, time_column


@admin.register(AgentWheel)
class AgentWheelAdmin(ReadOnlyAdmin):
    """Published by `manage.py publish_agent`; the newest one is offered to devices."""

    list_display = ["filename", "version", "sha256", "size", "published_by", "published"]
    list_filter = ["version"]
    list_select_related = ["blob"]
    search_fields = ["filename", "blob__sha256"]
    csv_fields = ["filename", "version", "blob_id", "blob__size_bytes", "published_at"]
    empty_hint = "Builds of the edge agent. `manage.py publish_agent WHEEL` adds one."

    sha256 = digest_column("SHA-256", "blob_id")
    size = size_column("blob__size_bytes")

    published = time_column("Published", "published_at")
