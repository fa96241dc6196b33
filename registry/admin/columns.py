"""Columns that many tables of the admin have: times, sizes, digests and states."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.timezone import localtime, now
from unfold.decorators import display

from registry.units import write_bytes

Column = Callable[[Any, Any], Any]
#: Moments nearer than this are "just now".
_JUST_NOW_SECONDS = 60


def time_column(title: str, field: str, *, never: str = "–") -> Column:
    """A time as `ago` says it, sorted by `field`."""

    @display(description=title, ordering=field)
    def column(_admin: Any, row: Any) -> SafeString:
        return ago(getattr(row, field), never=never)

    return column


def size_column(field: str) -> Column:
    """Bytes in a readable unit; `field` may follow relations with `__`."""

    @display(description="Size", ordering=field)
    def column(_admin: Any, row: Any) -> str:
        return write_bytes(_follow(row, field))

    return column


def digest_column(title: str, field: str) -> Column:
    """A digest that can be copied; not sorted by."""

    @display(description=title)
    def column(_admin: Any, row: Any) -> str:
        return copyable(getattr(row, field))

    return column


def state_column(title: str, field: str, colours: Mapping[str, str]) -> Column:
    """The label of a choice in the colour that `colours` gives it."""

    @display(description=title, ordering=field, label=colours)
    def column(_admin: Any, row: Any) -> str:
        return str(getattr(row, f"get_{field}_display")())

    return column


def ago(at: datetime | None, *, never: str = "–") -> SafeString:
    """How long ago a time is, or how far ahead, with the time itself on hover."""
    if at is None:
        return format_html("{}", never)
    current = now()
    if abs((current - at).total_seconds()) < _JUST_NOW_SECONDS:
        words = "just now"
    elif at > current:
        words = f"in {timesince(current, at, depth=1)}"
    else:
        words = f"{timesince(at, current, depth=1)} ago"
    local = localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        words,
    )


def copyable(digest: str | None) -> str:
    """A digest in full on hover, in short to read, with a button that copies it."""
    if not digest:
        return "–"
    return format_html(
        '<span class="rg-digest"><code title="{0}">{1}…</code> <button type="button" '
        'data-copy="{0}" aria-label="Copy {0}" '
        'style="text-decoration:underline;cursor:pointer">copy</button></span>',
        digest,
        digest[:12],
    )


def _follow(row: Any, path: str) -> Any:
    for name in path.split("__"):
        row = getattr(row, name)
    return row
