"""Channels: their secrets are typed in, never shown; a button sends a test."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
)

from notifications import tasks
from notifications.exceptions import NotificationError
from notifications.models import Channel
from notifications.sealing import unseal
from notifications.services import channels
from registry.admin.base import ListAdmin, form_page
from registry.admin.columns import time_column
from registry.enqueue import enqueue_after_commit

SAVED = ("name", "kind", "is_enabled", "group")


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """A channel as people type it in."""

    url = forms.CharField(
        required=False,
        max_length=2000,
        label="Address",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text="Of a webhook, Slack or Teams; of PagerDuty only for accounts in Europe. Kept "
        "encrypted and not shown again; empty leaves the one that is there.",
    )
    key = forms.CharField(
        required=False,
        max_length=500,
        label="Key",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text="PagerDuty's routing key. A webhook's secret is made here and shown once.",
    )
    addresses = forms.CharField(
        required=False,
        label="Recipients",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="E-mail addresses, one a line.",
    )

    class Meta:
        model = Channel
        fields = ["name", "kind", "is_enabled", "group"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["addresses"].initial = "\n".join(self.instance.recipients)

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        found["recipients"] = str(found.get("addresses", "")).split()
        if self.errors:
            return found
        kind = found.get("kind", self.instance.kind)
        draft = Channel(kind=kind, recipients=found["recipients"], group=found.get("group"))
        given = {name: found[name] for name in ("url", "key") if found.get(name)}
        try:
            secrets = {**unseal(self.instance.sealed), **given}
            channels.check_channel(draft, secrets)
        except NotificationError as error:
            raise forms.ValidationError(error.message) from error
        return found


class ConfirmForm(forms.Form):
    """Nothing to fill in: the button says it."""


@admin.register(Channel)
class ChannelAdmin(ListAdmin):
    """Where notifications go, and how each receiver answers."""

    form = ChannelForm
    list_display = ["name", "kind", "state", "hint", "delivered", "problem", "dropped"]
    list_filter = ["kind", "is_enabled"]
    search_fields = ["name", "hint"]
    list_select_related = ["group"]
    csv_fields = ["name", "kind", "is_enabled", "hint", "failures", "delivered_at", "problem"]
    actions = ["export_csv"]
    actions_detail = ["test_channel", "replace_secret"]
    empty_hint = "A webhook, a Slack or Teams channel, an e-mail list or PagerDuty. Add one, then "
    empty_hint += "a rule that says what it is told."

    @display(
        description="State",
        label={"Works": "success", "Fails": "danger", "Off": "info", "Not used yet": "info"},
    )
    def state(self, row: Channel) -> str:
        if not row.is_enabled:
            return "Off"
        if row.failures:
            return "Fails"
        return "Works" if row.delivered_at else "Not used yet"

    delivered = time_column("Last delivered", "delivered_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        own = ["name", "kind", "is_enabled", "url", "key", "addresses", "group"]
        return own if obj is None else [*own, "hint", "problem", "failures", "dropped"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else ["kind", "hint", "problem", "failures", "dropped"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return ModelAdmin.has_delete_permission(self, request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in SAVED if name in form.cleaned_data}
        channel, secret = channels.save_channel(
            actor=request.user.get_username(),
            channel_id=obj.pk,
            recipients=form.cleaned_data["recipients"],
            url=form.cleaned_data["url"],
            key=form.cleaned_data["key"],
            **given,
        )
        obj.pk = channel.pk
        obj.shown_secret = secret

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        if obj.shown_secret:
            return self._show_secret(request, obj, obj.shown_secret)
        return super().response_add(request, obj, post_url_continue)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        channels.delete_channel(channel_id=obj.pk, actor=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for row in queryset:
            self.delete_model(request, row)

    @action(description="Send a test", permissions=["change_one"], icon="send")
    def test_channel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks once more; POST sends, and the page of the delivery says how it went."""
        channel = self._find(request, object_id)

        def act(given: dict[str, Any]) -> Any:
            delivery = channels.send_test(
                channel_id=channel.pk, actor=request.user.get_username(), now=timezone.now()
            )
            enqueue_after_commit(tasks.deliver.delay, channel.pk)
            return delivery

        return form_page(
            self,
            request,
            form=ConfirmForm(request.POST if request.method == "POST" else None),
            act=act,
            title=f"Send a test to {channel}",
            button="Send",
            back=channel.get_absolute_url(),
            done=lambda delivery: (
                "The test is on its way; reload this page to see how it went.",
                reverse("admin:notifications_delivery_change", args=[delivery.pk]),
            ),
        )

    @action(description="Replace the secret", permissions=["change_one"], icon="key")
    def replace_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks once more; POST makes the new secret and shows it."""
        channel = self._find(request, object_id)
        if request.method == "POST" and channel.kind == Channel.Kind.WEBHOOK:
            _, secret = channels.rotate_secret(
                channel_id=channel.pk, actor=request.user.get_username(), now=timezone.now()
            )
            return self._show_secret(request, channel, secret)
        return form_page(
            self,
            request,
            form=ConfirmForm(request.POST if request.method == "POST" else None),
            act=lambda given: channels.rotate_secret(
                channel_id=channel.pk, actor=request.user.get_username(), now=timezone.now()
            ),
            title=f"Replace the secret of {channel}",
            button="Replace",
            back=channel.get_absolute_url(),
            done=lambda _: ("Replaced.", channel.get_absolute_url()),
            intro="Messages are signed with both secrets for 24 hours.",
        )

    def has_change_one_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("notifications.change_channel"))

    def _find(self, request: HttpRequest, object_id: str) -> Channel:
        if not self.has_change_one_permission(request):
            raise PermissionDenied
        channel: Channel | None = self.get_object(request, unquote(str(object_id)))
        if channel is None:
            raise Http404(f"No channel {object_id}")
        return channel

    def _show_secret(self, request: HttpRequest, channel: Channel, secret: str) -> HttpResponse:
        """The one answer that carries the secret."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Secret of {channel}",
            "opts": self.opts,
            "secret": secret,
            "back": channel.get_absolute_url(),
        }
        return TemplateResponse(request, "notifications/secret.html", context)
