"""What the admin's pages share: tables that nobody deletes from, CSV, and service calls."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from registry.exceptions import AviaryError
from registry.spreadsheets import write_lines
from registry.states import VersionState

STATE_COLOURS: dict[str, str] = {
    VersionState.DRAFT.label: "info",
    VersionState.VALIDATING.label: "info",
    VersionState.UNCLEAR.label: "warning",
    VersionState.READY.label: "primary",
    VersionState.APPROVED.label: "success",
    VersionState.DEPRECATED.label: "warning",
    VersionState.YANKED.label: "danger",
    VersionState.REJECTED.label: "danger",
}


class ListAdmin(ModelAdmin):
    """A table with CSV export that nobody deletes rows of.

    An empty one says what would be here: `empty_hint`, or the block `empty` of an own template
    that extends `registry/list_intro.html`.
    """

    actions = ["export_csv"]
    csv_fields: list[str] = []
    empty_hint = ""
    list_before_template = "registry/list_intro.html"
    list_per_page = 50
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of `add_page`, for those who may add."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self.add_page(request)

    def add_page(self, request: HttpRequest) -> HttpResponse:
        """Where a row is made: the theme's form, unless a table has a page with an own form."""
        response: HttpResponse = super().add_view(request)
        return response

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list under its own name, which the browser's tab shows."""
        title = capfirst(str(self.opts.verbose_name_plural))
        response: HttpResponse = super().changelist_view(
            request, {"title": title, **(extra_context or {})}
        )
        return response

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Any]) -> StreamingHttpResponse:
        rows = queryset.values_list(*self.csv_fields).iterator(chunk_size=2000)
        return csv_response(str(self.opts.model_name), self.csv_fields, rows)


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


def csv_response(
    name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> StreamingHttpResponse:
    """A download `NAME.csv` of the rows, streamed."""
    return StreamingHttpResponse(
        write_lines(header, rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )
