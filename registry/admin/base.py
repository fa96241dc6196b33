"""What the registry's pages share: read-only tables, CSV, times, digests and service calls."""

import csv
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin

from registry.exceptions import AviaryError
from registry.states import VersionState

STATE_COLOURS: dict[str, str] = {
    VersionState.DRAFT.label: "info",
    VersionState.VALIDATING.label: "info",
    VersionState.READY.label: "primary",
    VersionState.APPROVED.label: "success",
    VersionState.DEPRECATED.label: "warning",
    VersionState.YANKED.label: "danger",
    VersionState.REJECTED.label: "danger",
}
# Everything a spreadsheet would run as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class ListAdmin(ModelAdmin):
    """A table with CSV export that nobody deletes rows of."""

    actions = ["export_csv"]
    csv_fields: list[str] = []
    list_per_page = 50
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Any]) -> StreamingHttpResponse:
        writer = csv.writer(_Echo())
        rows = queryset.values_list(*self.csv_fields).iterator(chunk_size=2000)

        def lines() -> Any:
            yield writer.writerow(self.csv_fields)
            for row in rows:
                yield writer.writerow([_defuse(value) for value in row])

        response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
        name = self.opts.model_name
        response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
        return response


class ReadOnlyAdmin(ListAdmin):
    """A table that people look at and do not change."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def form_page(
    model_admin: ModelAdmin,
    request: HttpRequest,
    *,
    form: forms.Form,
    act: Callable[[dict[str, Any]], Any],
    title: str,
    button: str,
    back: str,
    done: Callable[[Any], tuple[str, str]],
    **context: Any,
) -> HttpResponse:
    """A page with one form whose POST makes one service call; its error is shown on the form.

    Args:
        done: from what the service returned, the message and the address to go to.
    """
    if request.method == "POST" and form.is_valid():
        try:
            result = act(form.cleaned_data)
        except AviaryError as error:
            form.add_error(None, describe_error(error))
        else:
            message, address = done(result)
            model_admin.message_user(request, message, messages.SUCCESS)
            return HttpResponseRedirect(address)
    return TemplateResponse(
        request,
        "registry/form.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": title,
            "form": form,
            "button": button,
            "back": back,
            **context,
        },
    )


def describe_error(error: AviaryError) -> str:
    """The message of an error with what its fields say, in one line."""
    parts = [
        f"{name}: {' '.join(map(str, texts))}"
        for name, texts in error.details.items()
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
    ]
    return " · ".join([error.message, *parts])


def ago(at: datetime | None) -> str:
    """How long ago, with the time itself on hover."""
    if at is None:
        return "–"
    local = localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{} ago</time>',
        local.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        timesince(at, depth=1),
    )


def copyable(digest: str | None) -> str:
    """A digest in full on hover, in short to read, with a button that copies it."""
    if not digest:
        return "–"
    return format_html(
        '<span class="rg-digest"><code title="{0}">{1}…</code> <button type="button" '
        'data-copy="{0}" aria-label="Copy {0}" onclick="event.preventDefault();'
        "navigator.clipboard.writeText(this.dataset.copy);this.textContent='copied'\" "
        'style="text-decoration:underline;cursor:pointer">copy</button></span>',
        digest,
        digest[:12],
    )


def _defuse(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


class _Echo:
    """A file for the csv writer that hands each line back."""

    def write(self, value: str) -> str:
        return value
