"""What arrived, for looking at only."""

from django.contrib import admin

from ingest.models import InboxBatch, RejectedRecord, Window
from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import time_column


@admin.register(InboxBatch)
class InboxBatchAdmin(ReadOnlyAdmin):
    """What devices posted, before and after it was added up."""

    list_display = ["batch_id", "device", "received", "accepted", "state", "problem"]
    list_filter = ["state", "received_at"]
    list_select_related = ["device"]
    search_fields = ["batch_id", "device__device_id"]
    csv_fields = [
        "batch_id", "device__device_id", "received_at", "accepted", "duplicates", "state",
        "attempts", "problem", "aggregated_at",
    ]  # fmt: skip
    empty_hint = "No batch has arrived. Devices post their records here once an agent classifies."
    exclude = ["payload"]

    received = time_column("Received", "received_at")


@admin.register(RejectedRecord)
class RejectedRecordAdmin(ReadOnlyAdmin):
    """Records that were refused, with why."""

    list_display = ["reason", "index", "batch"]
    list_select_related = ["batch"]
    list_filter = ["batch__received_at"]
    search_fields = ["reason", "batch__device__device_id"]
    csv_fields = ["batch__batch_id", "batch__device__device_id", "index", "reason"]
    empty_hint = "No record was rejected."


@admin.register(Window)
class WindowAdmin(ReadOnlyAdmin):
    """Records of one device and release, added up over a time."""

    list_display = ["start", "seconds", "device", "version", "variant", "cohort", "n", "errors"]
    list_filter = ["cohort", "version__model", "start"]
    list_select_related = ["device", "version__model", "variant__version__model"]
    search_fields = ["device__device_id"]
    csv_fields = [
        "start", "seconds", "device__device_id", "version__model__slug", "version__version",
        "variant__name", "cohort", "n", "errors",
    ]  # fmt: skip
    empty_hint = "No window yet. Records are added up here once devices have reported some."
