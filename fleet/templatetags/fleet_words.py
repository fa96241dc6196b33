"""How the fleet's pages say states, times and names."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from registry.units import write_amount, write_bytes

register = template.Library()


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """A time relative to now, with the absolute one on hover."""
    from registry.admin import columns

    return columns.ago(moment, never="never")


@register.filter
def amount(value: Any, unit: str = "B") -> str:
    """A figure with its unit; without one it is bytes. What a device reports may be no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return write_bytes(value) if unit == "B" else write_amount(value, unit)


@register.filter
def under(name: str) -> str:
    """A machine's name as words."""
    return str(name).replace("_", " ")


@register.filter
def is_list(value: Any) -> bool:
    """True for what is shown joined by commas."""
    return isinstance(value, (list, tuple))


@register.simple_tag
def state(word: str, colour: str = "") -> SafeString:
    """A state as a word with a colour."""
    # Imported when used: loading tags while the theme itself is being imported is a circle.
    from fleet.admin.base import STATE_COLOURS, VERDICT_COLOURS

    colour = colour or STATE_COLOURS.get(word) or VERDICT_COLOURS.get(word) or "info"
    return format_html('<span class="fl-state fl-{}">{}</span>', colour, word)


@register.filter
def pretty(value: Any) -> str:
    """Recorded numbers as indented JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
