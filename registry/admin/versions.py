"""Versions: browse, upload, approve, yank, compare."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from registry import tasks
from registry.admin.forms import TransitionForm, UploadForm
from registry.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from registry.comparison import compare_versions
from registry.exceptions import AviaryError
from registry.models import Variant, VariantFile, Version, VersionState
from registry.services import versions
from registry.states import PERSON_TARGETS, can_move

_STATE_COLOURS = {
    VersionState.DRAFT: "info",
    VersionState.VALIDATING: "info",
    VersionState.READY: "primary",
    VersionState.APPROVED: "success",
    VersionState.DEPRECATED: "warning",
    VersionState.YANKED: "danger",
    VersionState.REJECTED: "danger",
}
_VERBS = {"approved": "Approve", "deprecated": "Deprecate", "yanked": "Yank"}


class VariantInline(ReadOnlyInline):
    """Variants of a version with the digests of their files."""

    model = Variant
    fields = ["name", "identity", "file_list", "requirements", "metrics", "is_promotable"]
    readonly_fields = fields
    verbose_name_plural = "Variants"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("files__blob")

    @admin.display(description="Manifest SHA-256")
    def identity(self, obj: Variant) -> SafeString:
        return format_html("<code style='word-break:break-all'>{}</code>", obj.manifest_sha256 or "")

    @admin.display(description="Files")
    def file_list(self, obj: Variant) -> SafeString:
        return format_html_join(
            "",
            "<div>{} ({}, {} bytes)<br><code style='word-break:break-all'>{}</code></div>",
            (
                (file.path, file.get_role_display(), file.blob.size_bytes, file.blob_id)
                for file in obj.files.all()
            ),
        )


@admin.register(Version)
class VersionAdmin(ModelAdmin):
    """Versions of all models; only notes and tags are edited by hand."""

    list_display = ["model", "version", "sequence", "state_label", "created_by", "created_at"]
    list_display_links = ["version"]
    list_filter = ["state", "model"]
    list_select_related = ["model"]
    search_fields = ["version", "model__slug", "notes"]
    date_hierarchy = "created_at"
    inlines = [VariantInline]
    actions = ["compare_selected"]
    actions_detail = ["approve", "deprecate", "yank"]
    fields = [
        "model",
        "version",
        "sequence",
        "state_label",
        "rejection_reason",
        "notes",
        "tags",
        "source",
        "metrics",
        "parent",
        "dataset",
        "signature",
        "preprocessing",
        "postprocessing",
        "created_by",
        "created_at",
    ]
    readonly_fields = [name for name in fields if name not in ("notes", "tags")]

    @display(description="State", ordering="state", label=_STATE_COLOURS)
    def state_label(self, obj: Version) -> tuple[str, str]:
        return obj.state, obj.get_state_display()

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                "<int:pk>/transition/<str:to>/",
                self.admin_site.admin_view(self.transition_view),
                name="registry_version_transition",
            ),
            path(
                "compare/<int:left>/<int:right>/",
                self.admin_site.admin_view(self.compare_view),
                name="registry_version_compare",
            ),
        ]
        return own + super().get_urls()

    def has_delete_permission(self, request: HttpRequest, obj: Version | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Version, form: ModelForm, change: bool) -> None:
        versions.edit_version(
            version_id=obj.pk,
            actor=request.user.get_username(),
            notes=obj.notes,
            tags=obj.tags,
        )

    @action(description="Approve", url_path="approve", permissions=["change"], icon="check")
    def approve(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect("admin:registry_version_transition", object_id, VersionState.APPROVED)

    @action(description="Deprecate", url_path="deprecate", permissions=["change"])
    def deprecate(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect("admin:registry_version_transition", object_id, VersionState.DEPRECATED)

    @action(description="Yank", url_path="yank", permissions=["change"], icon="block")
    def yank(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return redirect("admin:registry_version_transition", object_id, VersionState.YANKED)

    @admin.action(description="Compare two versions")
    def compare_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        chosen = list(queryset.order_by("sequence").values_list("pk", flat=True)[:3])
        if len(chosen) != 2:
            self.message_user(request, "Choose exactly two versions.", messages.WARNING)
            return None
        return redirect("admin:registry_version_compare", *chosen)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Uploads a file as a new version."""
        if not self.has_add_permission(request):
            raise Http404
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            given = form.cleaned_data
            try:
                version = versions.upload_version(
                    model_slug=given["model"].slug,
                    version=given["version"],
                    files=[("model.onnx", given["file"], None)],
                    dataset=given["dataset"],
                    metadata={"notes": given["notes"]},
                    actor=request.user.get_username(),
                )
            except AviaryError as error:
                form.add_error(None, error.message)
            else:
                transaction.on_commit(
                    lambda: tasks.validate_version.delay(version.pk), robust=True
                )
                self.message_user(request, f"{version} was uploaded and is being validated.")
                return redirect("admin:registry_version_change", version.pk)
        return self._form_page(request, form, "Upload a version", "Upload")

    def transition_view(self, request: HttpRequest, pk: int, to: str) -> HttpResponse:
        """Asks for a reason, then moves the version."""
        version = get_object_or_404(Version.objects.select_related("model"), pk=pk)
        if to not in PERSON_TARGETS or not self.has_change_permission(request, version):
            raise Http404
        if not can_move(version.state, to):
            self.message_user(
                request, f"{version} cannot go from {version.state} to {to}.", messages.ERROR
            )
            return redirect(version)
        form = TransitionForm(request.POST or None, needs_reason=to == VersionState.YANKED)
        if request.method == "POST" and form.is_valid():
            try:
                versions.transition_version(
                    version_id=pk,
                    to=to,
                    actor=request.user.get_username(),
                    reason=form.cleaned_data["reason"],
                )
            except AviaryError as error:
                self.message_user(request, error.message, messages.ERROR)
            else:
                self.message_user(request, f"{version} is {to}.")
            return redirect(version)
        verb = _VERBS[to]
        return self._form_page(request, form, f"{verb} {version}?", verb, version)

    def compare_view(self, request: HttpRequest, left: int, right: int) -> HttpResponse:
        """Two versions side by side."""
        if not self.has_view_permission(request):
            raise Http404
        found = Version.objects.select_related("model").in_bulk([left, right])
        if len(found) != 2:
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": f"{found[left]} and {found[right]}",
            "opts": self.opts,
            "left": found[left],
            "right": found[right],
            "rows": compare_versions(_facts(found[left]), _facts(found[right])),
        }
        return TemplateResponse(request, "registry/compare.html", context)

    def _form_page(
        self, request: HttpRequest, form: Any, title: str, verb: str, obj: Version | None = None
    ) -> HttpResponse:
        back = obj.get_absolute_url() if obj else reverse("admin:registry_version_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "verb": verb,
            "back": back,
        }
        return TemplateResponse(request, "registry/form.html", context)


class VariantFileInline(ReadOnlyInline):
    """Files of a variant."""

    model = VariantFile
    fields = ["path", "role", "blob_id"]
    readonly_fields = fields
    show_change_link = False


@admin.register(Variant)
class VariantAdmin(ReadOnlyAdmin):
    """Variants of all versions."""

    list_display = ["name", "version", "manifest_sha256", "is_promotable", "created_at"]
    list_filter = ["name", "is_promotable", "version__model"]
    list_select_related = ["version__model"]
    search_fields = ["name", "version__version", "version__model__slug", "manifest_sha256"]
    inlines = [VariantFileInline]


def _facts(version: Version) -> dict[str, Any]:
    return {
        "sequence": version.sequence,
        "state": version.state,
        "metrics": version.metrics,
        "signature": version.signature,
        "preprocessing": version.preprocessing,
        "postprocessing": version.postprocessing,
        "source": version.source,
        "variants": {
            variant.name: {
                "manifest": variant.manifest_sha256,
                "files": {file.path: file.blob_id for file in variant.files.all()},
                "metrics": variant.metrics,
            }
            for variant in version.variants.prefetch_related("files")
        },
    }
