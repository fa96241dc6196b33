"""The page *Storage*: what fills the disk, and for how long it is kept."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse

from config.retention.sizes import measure_tables


def storage_view(request: HttpRequest) -> TemplateResponse:
    """One line a table; `?dry_run=1` counts what would be removed now."""
    if not request.user.has_perm("ingest.view_inboxbatch"):
        raise PermissionDenied
    is_dry_run = request.GET.get("dry_run") == "1"
    sizes = measure_tables(is_dry_run=is_dry_run)
    known = [size.size_bytes for size in sizes if size.size_bytes is not None]
    context = {
        **admin.site.each_context(request),
        "title": "Storage",
        "sizes": sizes,
        "total_bytes": sum(known) if known else None,
        "is_dry_run": is_dry_run,
    }
    return TemplateResponse(request, "config/storage.html", context)
