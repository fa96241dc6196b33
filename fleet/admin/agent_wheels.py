"""The agent's published wheels: what new devices install."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from fleet.admin.base import ReadOnlyAdmin, relative_time
from fleet.models import AgentWheel


@admin.register(AgentWheel)
class AgentWheelAdmin(ReadOnlyAdmin):
    """Published by `manage.py publish_agent`; the newest one is offered to devices."""

    list_display = ["filename", "version", "sha256", "size", "published_by", "published"]
    list_filter = ["version"]
    list_select_related = ["blob"]
    search_fields = ["filename", "blob__sha256"]
    list_before_template = "fleet/list_hint.html"
    empty_hint = "Builds of the edge agent. `manage.py publish_agent WHEEL` adds one."

    @display(description="SHA-256")
    def sha256(self, row: AgentWheel) -> str:
        return str(row.blob_id)

    @display(description="Size")
    def size(self, row: AgentWheel) -> str:
        return f"{row.blob.size_bytes / 1024:.0f} KiB"

    @display(description="Published", ordering="published_at")
    def published(self, row: AgentWheel) -> str:
        return relative_time(row.published_at)
