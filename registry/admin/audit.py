"""The audit chain, for looking at only."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import action

from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import digest_column, time_column
from registry.exceptions import AuditChainError
from registry.models import AuditEvent
from registry.services.audit import verify_chain


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Who did what, newest first; each row carries the digest of the one before."""

    list_before_template = "registry/audit_intro.html"
    list_display = ["when", "actor", "action", "summary", "short_digest"]
    list_filter = ["action", "object_type", "at"]
    list_select_related: list[str] = []
    search_fields = ["actor", "action", "object_id", "summary", "digest"]
    date_hierarchy = "at"
    ordering = ["-pk"]
    csv_fields = [
        "at", "actor", "action", "object_type", "object_id", "summary", "previous_digest", "digest",
    ]  # fmt: skip
    fields = [
        "at", "actor", "action", "object_type", "object_id", "summary", "details",
        "chain_previous", "chain_digest",
    ]  # fmt: skip
    readonly_fields = ["chain_previous", "chain_digest"]
    actions_list = ["verify_now"]

    when = time_column("When", "at")

    short_digest = digest_column("Chain digest", "digest")

    chain_previous = digest_column("Digest of the event before", "previous_digest")

    chain_digest = digest_column("Digest of this event", "digest")

    @action(description="Verify the chain", permissions=["view"], icon="fact_check")
    def verify_now(self, request: HttpRequest) -> HttpResponse:
        """Walks the chain and says whether it is whole; changes nothing."""
        try:
            count = verify_chain()
        except AuditChainError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, f"The chain of {count} events is whole.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:registry_auditevent_changelist"))
