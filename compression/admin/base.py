"""What every page of compression shares: its frame, and words for shares and times."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin


def render_page(
    model_admin: ModelAdmin,
    request: HttpRequest,
    name: str,
    title: str,
    context: dict[str, Any],
) -> HttpResponse:
    """The template `compression/NAME.html` inside the frame of the admin."""
    values = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.opts,
        **context,
    }
    return TemplateResponse(request, f"compression/{name}.html", values)


def write_share(value: dict[str, Any] | None) -> str:
    """A proportion with its 95 % interval, in percent."""
    if value is None:
        return "no labels"
    low, high = (100 * value[end] for end in ("low", "high"))
    return f"{write_percent(value['value'])} ({low:.2f} to {high:.2f})"


def write_percent(share: float | None) -> str:
    """A share of one, in percent."""
    return "–" if share is None else f"{100 * share:.2f} %"


def write_lost(points: float | None) -> str:
    """Percentage points lost; what was gained has a minus, and a rounded zero no sign."""
    return "–" if points is None else f"{round(points, 2) + 0.0:.2f}".replace("-", "−")


def write_seconds(seconds: float) -> str:
    """A rough length of time in words."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def name_machine(report: dict[str, Any]) -> str:
    """The processor a report was measured on; its architecture where the name is unknown."""
    environment = report.get("environment") or {}
    return environment.get("cpu") or environment.get("machine", "")
