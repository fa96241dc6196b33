"""What arrived, and what became of it."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from ingest.models import InboxBatch, RejectedRecord, Summary, Window
from ingest.services.aggregation import retry_batches
from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import state_column, time_column

STATE_COLOURS = {"Pending": "info", "Done": "success", "Set aside": "danger"}


@admin.register(InboxBatch)
class InboxBatchAdmin(ReadOnlyAdmin):
    """What devices posted, before and after it was added up.

    A batch that could not be is set aside with its error; *Count again* gives it another chance.
    """

    list_display = [
        "batch_id",
        "device",
        "received",
        "accepted",
        "state_label",
        "attempts",
        "problem",
    ]
    list_filter = ["state", "received_at"]
    list_select_related = ["device"]
    search_fields = ["batch_id", "device__device_id"]
    csv_fields = [
        "batch_id", "device__device_id", "received_at", "accepted", "duplicates", "state",
        "attempts", "problem", "aggregated_at",
    ]  # fmt: skip
    empty_hint = "No batch has arrived. Devices post their records here once an agent classifies."
    exclude = ["payload"]

    actions = ["count_again", "export_csv"]

    received = time_column("Received", "received_at")
    state_label = state_column("State", "state", STATE_COLOURS)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.change_inboxbatch")

    @admin.action(description="Count again", permissions=["retry"])
    def count_again(self, request: HttpRequest, queryset: QuerySet[InboxBatch]) -> None:
        chosen = list(queryset.values_list("pk", flat=True))
        count = retry_batches(batch_ids=chosen, actor=request.user.get_username())
        if count:
            self.message_user(
                request, f"{count} will be counted again with the next run.", messages.SUCCESS
            )
        else:
            self.message_user(request, "None of these was set aside.", messages.WARNING)


@admin.register(RejectedRecord)
class RejectedRecordAdmin(ReadOnlyAdmin):
    """Records that were refused, with why."""

    list_display = ["reason", "index", "batch"]
    list_select_related = ["batch"]
    list_filter = ["batch__received_at"]
    search_fields = ["reason", "batch__device__device_id"]
    csv_fields = ["batch__batch_id", "batch__device__device_id", "index", "reason"]
    empty_hint = "No record was rejected."


@admin.register(Summary)
class SummaryAdmin(ReadOnlyAdmin):
    """What devices counted themselves, in its newest revision."""

    list_display = ["start", "device", "version", "variant", "cohort", "revision", "is_pending"]
    list_filter = ["is_pending", "cohort", "version__model", "start"]
    list_select_related = ["device", "version__model", "variant__version__model"]
    search_fields = ["device__device_id"]
    csv_fields = [
        "start", "device__device_id", "version__model__slug", "version__version", "variant__name",
        "cohort", "revision", "is_pending", "problem", "received_at",
    ]  # fmt: skip
    empty_hint = "No device has sent counts. AVIARY_SUMMARY_SECONDS has devices count."


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
