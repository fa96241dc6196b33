"""Join tokens: made here, their secret shown once."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.decorators import display

from fleet.admin.base import actor_of, call_service
from fleet.admin.forms import JoinTokenForm, format_labels
from fleet.models import AgentWheel, JoinToken
from fleet.polling.device_files import wheel_url
from fleet.services.enrolment import create_join_token, revoke_join_token
from registry.admin.base import ListAdmin
from registry.admin.columns import time_column

AGENT_HOME = "/opt/aviary-agent"


@admin.register(JoinToken)
class JoinTokenAdmin(ListAdmin):
    """Tokens that let devices enrol; one is never changed, only revoked."""

    form = JoinTokenForm
    list_display = ["name", "state", "used", "label_words", "is_auto_accept", "expires"]
    list_filter = ["is_auto_accept", "expires_at"]
    list_select_related = ["created_by"]
    search_fields = ["name"]
    actions = ["revoke_selected", "export_csv"]
    csv_fields = [
        "name", "labels", "is_auto_accept", "uses", "max_uses", "created_at", "expires_at",
        "revoked_at",
    ]  # fmt: skip
    empty_hint = "Secrets that let devices enrol. Add one, and give it to an agent."

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A token is not edited; the permission still guards revoking.
        return obj is None and super().has_change_permission(request)

    @display(
        description="State",
        label={"Usable": "success", "Used up": "info", "Expired": "info", "Revoked": "danger"},
    )
    def state(self, row: JoinToken) -> str:
        if row.revoked_at:
            return "Revoked"
        if row.expires_at <= timezone.now():
            return "Expired"
        return "Used up" if row.uses >= row.max_uses else "Usable"

    @display(description="Used", ordering="uses")
    def used(self, row: JoinToken) -> str:
        return f"{row.uses} of {row.max_uses}"

    @display(description="Labels given")
    def label_words(self, row: JoinToken) -> str:
        return format_labels(row.labels) or "–"

    expires = time_column("Expires", "expires_at")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        fields = {name: form.cleaned_data[name] for name in JoinTokenForm.Meta.fields}
        token, secret = create_join_token(
            **fields, actor=actor_of(request), created_by=request.user
        )
        obj.pk = token.pk
        obj.shown_secret = secret

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The one answer that carries the secret; no other page can show it."""
        server_url = settings.AVIARY_PUBLIC_URL or request.build_absolute_uri("/")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Join token {obj.name}",
            "opts": self.opts,
            "token": obj,
            "secret": obj.shown_secret,
            "commands": install_commands(
                server_url.rstrip("/"), obj.shown_secret, AgentWheel.objects.first()
            ),
        }
        return TemplateResponse(request, "fleet/secret.html", context)

    @admin.action(description="Revoke", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[JoinToken]) -> None:
        for token in queryset:
            call_service(
                request,
                partial(revoke_join_token, token_id=token.pk, actor=actor_of(request)),
                subject=token.name,
                done="revoked, no device joins with it any more",
            )


def install_commands(server_url: str, secret: str, wheel: AgentWheel | None) -> list[str]:
    """What a person types on a new device: install with a pinned digest, enrol, run at boot.

    Args:
        wheel: the newest published agent; None leaves its installation out.
    """
    commands = []
    if wheel is not None:
        address = f"{wheel_url(wheel, server_url)}#sha256={wheel.blob_id}"
        commands += [
            f"python3 -m venv {AGENT_HOME}",
            f"{AGENT_HOME}/bin/pip install 'aviary-edge-agent[monitor] @ {address}'",
        ]
    program = f"{AGENT_HOME}/bin/aviary-agent"
    return [
        *commands,
        f"{program} enroll --server {server_url} --join-token {secret}",
        f"{program} install-service",
    ]
