"""What arrived, for looking at only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from ingest.models import InboxBatch, RejectedRecord, Window


class ReadOnlyAdmin(ModelAdmin):
    """A table that people look at and do not change."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(InboxBatch)
class InboxBatchAdmin(ReadOnlyAdmin):
    list_display = ["batch_id", "device", "received_at", "accepted", "state", "problem"]
    list_filter = ["state", "received_at"]
    list_select_related = ["device"]
    search_fields = ["batch_id", "device__device_id"]
    exclude = ["payload"]


@admin.register(RejectedRecord)
class RejectedRecordAdmin(ReadOnlyAdmin):
    list_display = ["reason", "index", "batch"]
    list_select_related = ["batch"]
    list_filter = ["batch__received_at"]
    search_fields = ["reason", "batch__device__device_id"]


@admin.register(Window)
class WindowAdmin(ReadOnlyAdmin):
    list_display = ["start", "seconds", "device", "version", "variant", "cohort", "n", "errors"]
    list_filter = ["cohort", "version__model", "start"]
    list_select_related = ["device", "version__model", "variant__version__model"]
    search_fields = ["device__device_id"]
