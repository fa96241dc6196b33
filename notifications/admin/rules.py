"""Rules: which events go where, and when it is quiet."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from notifications.exceptions import InvalidRuleError
from notifications.models import Rule
from notifications.services.channels import check_rule, delete_rule, save_rule
from registry.admin.base import ListAdmin, describe_error
from registry.events import known_kinds

_FIELDS = [
    "name", "channel", "is_enabled", "kinds", "models", "level", "quiet_from", "quiet_until",
    "time_zone", "is_critical_loud",
]  # fmt: skip


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rule as people choose it: kinds are ticked, none for all."""

    kinds = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None for every kind.",
    )

    class Meta:
        model = Rule
        fields = _FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kinds" not in self.fields:
            return
        known = known_kinds()
        things = sorted({f"{kind.partition('.')[0]}.*" for kind in known})
        # What the API was given stays, also where it is no choice of its own here.
        own = [kind for kind in self.instance.kinds if kind not in known and kind not in things]
        self.fields["kinds"].choices = [  # type: ignore[attr-defined]
            *((name, f"{name} – everything of {name[:-2]}") for name in things),
            *((name, f"{name} – {words}") for name, words in known.items()),
            *((name, name) for name in own),
        ]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if not self.errors:
            try:
                check_rule(self.instance)
            except InvalidRuleError as error:
                self.add_error(None, describe_error(error))


@admin.register(Rule)
class RuleAdmin(ListAdmin):
    """What each channel is told."""

    form = RuleForm
    fields = _FIELDS
    list_display = ["name", "channel", "is_enabled", "what", "level", "quiet"]
    list_filter = ["is_enabled", "level", "channel"]
    list_select_related = ["channel"]
    search_fields = ["name", "channel__name"]
    autocomplete_fields = ["models"]
    csv_fields = ["name", "channel__name", "is_enabled", "level", "quiet_from", "quiet_until"]
    empty_hint = "A rule says which events go to which channel, and when it is quiet."

    @display(description="Events")
    def what(self, row: Rule) -> str:
        return ", ".join(row.kinds) or "every kind"

    @display(description="Quiet")
    def quiet(self, row: Rule) -> str:
        if row.quiet_from is None or row.quiet_until is None:
            return "–"
        return f"{row.quiet_from:%H:%M} to {row.quiet_until:%H:%M} {row.time_zone}"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return ModelAdmin.has_delete_permission(self, request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        rule = save_rule(actor=request.user.get_username(), rule_id=obj.pk, **form.cleaned_data)
        obj.pk = rule.pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        delete_rule(rule_id=obj.pk, actor=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        for row in queryset:
            self.delete_model(request, row)
