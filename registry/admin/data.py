"""Data sets and baselines."""

from django.contrib import admin

from registry.admin.read_only import ReadOnlyAdmin
from registry.models import Baseline, DataSet


@admin.register(DataSet)
class DataSetAdmin(ReadOnlyAdmin):
    """Registered data sets; added through the API."""

    list_display = ["name", "model", "kind", "rows", "digest", "created_by", "created_at"]
    list_filter = ["kind", "model"]
    list_select_related = ["model", "blob"]
    search_fields = ["name", "model__slug", "blob__sha256"]

    @admin.display(description="SHA-256")
    def digest(self, obj: DataSet) -> str:
        return obj.blob_id[:12]


@admin.register(Baseline)
class BaselineAdmin(ReadOnlyAdmin):
    """Reference profiles for drift."""

    list_display = ["version", "variant", "digest", "source", "is_active", "created_at"]
    list_filter = ["is_active", "version__model"]
    list_select_related = ["version__model", "variant__version__model"]
    search_fields = ["version__version", "version__model__slug", "sha256"]

    @admin.display(description="SHA-256")
    def digest(self, obj: Baseline) -> str:
        return obj.sha256[:12]
