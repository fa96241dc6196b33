"""Deliveries with every attempt, and the events they tell."""

from __future__ import annotations

import json
from functools import partial

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from notifications import tasks
from notifications.models import Delivery, OutboxEvent
from notifications.services.channels import redeliver
from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import state_column, time_column
from registry.enqueue import enqueue_after_commit
from registry.exceptions import AviaryError

STATE_COLOURS = {
    "Waiting": "info",
    "Delivered": "success",
    "Failed": "danger",
    "Withdrawn": "info",
}


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What was sent where, the newest first."""

    list_display = ["what", "channel", "state_label", "attempts", "problem", "made", "next"]
    list_filter = ["state", "channel", "event__kind"]
    list_select_related = ["event", "channel"]
    search_fields = ["event__summary", "event__kind", "problem"]
    csv_fields = [
        "event__kind", "event__summary", "channel__name", "state", "attempts", "problem",
        "created_at", "finished_at",
    ]  # fmt: skip
    actions = ["send_again", "export_csv"]
    empty_hint = "One appears when an event happens that a rule sends to a channel."
    fields = [
        "what", "channel", "state_label", "attempts", "problem", "made", "next", "finished",
        "tries", "details",
    ]  # fmt: skip
    readonly_fields = fields

    @display(description="Event", ordering="event__kind")
    def what(self, row: Delivery) -> str:
        return str(row.event)[:200]

    state_label = state_column("State", "state", STATE_COLOURS)
    made = time_column("Made", "created_at")
    next = time_column("Next attempt", "next_attempt_at")
    finished = time_column("Finished", "finished_at")

    @display(description="Attempts, the latest")
    def tries(self, row: Delivery) -> SafeString | str:
        lines = (
            (line["at"], line["status"] or "–", line["problem"] or "delivered")
            for line in row.history
        )
        return format_html_join("", "<div>{} · {} · {}</div>", lines) or "none"

    @display(description="Details")
    def details(self, row: Delivery) -> SafeString:
        text = json.dumps(row.event.details, indent=2, ensure_ascii=False)
        return format_html('<pre style="white-space:pre-wrap">{}</pre>', text)

    def has_send_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("notifications.change_delivery"))

    @admin.action(description="Send again", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        again = partial(redeliver, actor=request.user.get_username(), now=timezone.now())
        for row in queryset.select_related("event", "channel"):
            try:
                again(delivery_id=row.pk)
            except AviaryError as error:
                self.message_user(request, f"{row}: {error.message}", messages.WARNING)
                continue
            enqueue_after_commit(tasks.deliver.delay, row.channel_id)
            self.message_user(request, f"{row}: on its way again", messages.SUCCESS)


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    """What happened, whether or not anybody was to know of it."""

    list_display = [
        "kind",
        "summary",
        "level_label",
        "model_slug",
        "device_id",
        "actor",
        "happened",
    ]
    list_filter = ["level", "kind"]
    search_fields = ["summary", "model_slug", "device_id"]
    csv_fields = ["at", "kind", "level", "summary", "actor", "model_slug", "device_id", "cause"]
    empty_hint = "Nothing has happened yet."

    level_label = state_column(
        "Level", "level", {"Info": "info", "Warning": "warning", "Critical": "danger"}
    )
    happened = time_column("At", "at")
