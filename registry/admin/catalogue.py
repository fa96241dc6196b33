"""Models and aliases."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from registry.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from registry.models import Alias, AliasMove, Model, Version
from registry.services.audit import record_event


class VersionInline(ReadOnlyInline):
    """Versions of a model."""

    model = Version
    fields = ["version", "sequence", "state", "created_by", "created_at"]
    readonly_fields = fields
    ordering = ["-sequence"]


@admin.register(Model)
class ModelPageAdmin(ModelAdmin):
    """Models; what versions depend on cannot change once there is one."""

    list_display = ["slug", "title", "task", "version_count", "owner", "created_at"]
    list_filter = ["task"]
    list_select_related = ["owner"]
    search_fields = ["slug", "title"]
    fields = ["slug", "title", "task", "labels", "owner", "tags"]
    autocomplete_fields = ["owner"]
    inlines = [VersionInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        return super().get_queryset(request).annotate(version_total=Count("versions"))

    @admin.display(description="Versions", ordering="version_total")
    def version_count(self, obj: Any) -> int:
        return int(obj.version_total)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        if obj is None:
            return []
        has_versions = obj.versions.exists()
        return ["slug", "task", "labels"] if has_versions else ["slug"]

    def save_model(self, request: HttpRequest, obj: Model, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        record_event(
            actor=request.user.get_username(),
            action="model.edited" if change else "model.created",
            obj=obj,
            summary=f"Model {obj.slug} was {'edited' if change else 'created'}",
            details={"fields": form.changed_data},
        )

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class AliasMoveInline(ReadOnlyInline):
    """Where an alias has been."""

    model = AliasMove
    fk_name = "alias"
    fields = ["at", "from_version", "to_version", "actor", "reason"]
    readonly_fields = fields


@admin.register(Alias)
class AliasAdmin(ReadOnlyAdmin):
    """Names that move; moved through the API."""

    list_display = ["name", "model", "version", "is_protected"]
    list_filter = ["name", "is_protected"]
    list_select_related = ["model", "version__model"]
    search_fields = ["name", "model__slug"]
    inlines = [AliasMoveInline]
