"""The audit log, to be read only."""

from django.contrib import admin

from registry.admin.read_only import ReadOnlyAdmin
from registry.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Who did what, newest first."""

    list_display = ["at", "actor", "action", "summary"]
    list_filter = ["action", "actor", "object_type"]
    search_fields = ["summary", "actor", "action", "object_id", "digest"]
    date_hierarchy = "at"
    list_select_related: list[str] = []
    show_full_result_count = False
