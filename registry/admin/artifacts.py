"""Variants, their files and the bytes below them, for looking at only."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.decorators import display

from registry.admin.base import ReadOnlyAdmin
from registry.admin.columns import digest_column, size_column, time_column
from registry.models import Blob, Variant, VariantFile


class FileInline(TabularInline):
    model = VariantFile
    extra = 0
    can_delete = False
    fields = ["path", "role", "size", "digest"]
    readonly_fields = fields
    show_change_link = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[VariantFile]:
        files: QuerySet[VariantFile] = super().get_queryset(request)
        return files.select_related("blob")

    size = size_column("blob__size_bytes")

    digest = digest_column("SHA-256", "blob_id")


@admin.register(Variant)
class VariantAdmin(ReadOnlyAdmin):
    """Ways to run a version, each with the digest that is its identity."""

    list_display = ["version", "name", "promotable", "digest", "derived_from", "created"]
    list_filter = ["is_promotable", "name", "version__model"]
    list_select_related = ["version__model", "derived_from__version__model"]
    search_fields = ["name", "manifest_sha256", "version__version", "version__model__slug"]
    csv_fields = [
        "version__model__slug", "version__version", "name", "is_promotable", "manifest_sha256",
        "created_at",
    ]  # fmt: skip
    fields = [
        "version", "name", "promotable", "digest", "requirements", "metrics", "provenance",
        "derived_from", "envelope", "created_at",
    ]  # fmt: skip
    readonly_fields = ["promotable", "digest"]
    inlines = [FileInline]
    change_form_outer_before_template = "registry/variant_intro.html"

    @display(
        description="Promotable",
        ordering="is_promotable",
        label={"Promotable": "success", "Held back": "warning"},
    )
    def promotable(self, variant: Variant) -> str:
        return "Promotable" if variant.is_promotable else "Held back"

    digest = digest_column("Manifest", "manifest_sha256")

    created = time_column("Created", "created_at")


@admin.register(VariantFile)
class VariantFileAdmin(ReadOnlyAdmin):
    """Every file of every variant."""

    list_display = ["path", "role", "variant", "size", "digest"]
    list_filter = ["role"]
    list_select_related = ["blob", "variant__version__model"]
    search_fields = ["path", "blob__sha256", "variant__version__model__slug"]
    csv_fields = ["variant_id", "path", "role", "blob_id", "blob__size_bytes"]
    fields = ["variant", "path", "role", "size", "digest"]
    readonly_fields = ["size", "digest"]

    size = size_column("blob__size_bytes")

    digest = digest_column("SHA-256", "blob_id")


@admin.register(Blob)
class BlobAdmin(ReadOnlyAdmin):
    """Bytes by digest, stored once."""

    list_display = ["digest", "size", "stored"]
    list_filter = ["stored_at"]
    search_fields = ["sha256"]
    ordering = ["-stored_at"]
    csv_fields = ["sha256", "size_bytes", "stored_at"]

    @display(description="SHA-256", ordering="sha256")
    def digest(self, blob: Blob) -> str:
        return blob.sha256

    size = size_column("size_bytes")

    stored = time_column("Stored", "stored_at")
