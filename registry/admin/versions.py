"""Versions: the list, the page of one, uploads, and the buttons that move it."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from registry import tasks
from registry.admin.base import STATE_COLOURS, ListAdmin, form_page
from registry.admin.columns import state_column, time_column
from registry.admin.version_page import VERBS, build_page, describe_consequences, facts_of
from registry.comparison import compare_versions
from registry.enqueue import enqueue_after_commit
from registry.models import DataSet, Model, Version, VersionState
from registry.services.versions import (
    DECIDE_VERSION,
    correct_contract,
    edit_version,
    transition_version,
    upload_version,
)


class UploadForm(forms.Form):
    """A new version: one ONNX file with its weights inside."""

    model = forms.ModelChoiceField(Model.objects.order_by("slug"), widget=UnfoldAdminSelectWidget())
    version = forms.CharField(
        max_length=64,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Unique for the model, such as 1.4.0.",
    )
    file = forms.FileField(
        label="ONNX file",
        widget=UnfoldAdminFileFieldWidget(),
        help_text="Inputs, outputs and opset are read from the file.",
    )
    dataset = forms.ModelChoiceField(
        DataSet.objects.select_related("model").order_by("model__slug", "name"),
        label="Evaluation data set",
        required=False,
        widget=UnfoldAdminSelectWidget(),
        help_text="Gives the version its accuracy, its baseline for drift and its self-test.",
    )
    notes = forms.CharField(required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}))


class TransitionForm(forms.Form):
    """Why a version is moved."""

    reason = forms.CharField(
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Kept in the audit log.",
    )


class ContractForm(forms.Form):
    """What a person says of the outputs; what is left empty is inferred."""

    contract = forms.JSONField(
        label="Fields of the contract",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8}),
        help_text='Such as {"task": "regression"}, {"form": "binary", "activation": "sigmoid"} or '
        '{"outputs": {"scores": "probabilities"}}.',
    )
    reason = forms.CharField(
        max_length=2000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Kept in the audit log.",
    )

    def clean_contract(self) -> dict[str, Any]:
        value = self.cleaned_data["contract"] or {}
        if not isinstance(value, dict):
            raise forms.ValidationError("A JSON object is expected.")
        return value


@admin.register(Version)
class VersionAdmin(ListAdmin):
    """Releases of models; only notes and tags are edited, states move through their buttons."""

    actions = ["export_csv", "compare_selected"]
    list_before_template = "registry/versions_intro.html"
    change_form_outer_before_template = "registry/version_page.html"
    list_display = ["title", "version", "sequence", "state_label", "created_by", "created"]
    list_display_links = ["title", "version"]
    list_filter = ["state", "model", "created_at"]
    list_select_related = ["model"]
    search_fields = ["version", "model__slug", "notes", "created_by"]
    ordering = ["-pk"]
    csv_fields = ["model__slug", "version", "sequence", "state", "created_by", "created_at"]
    fields = ["notes", "tags", "source", "metrics", "preprocessing", "postprocessing", "dataset"]
    readonly_fields = ["source", "metrics", "preprocessing", "postprocessing", "dataset"]

    @display(description="Model", ordering="model__slug")
    def title(self, version: Version) -> str:
        return version.model.slug

    state_label = state_column("State", "state", STATE_COLOURS)

    created = time_column("Created", "created_at")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path(
                "<int:pk>/to/<str:to>/",
                view(self.transition_view),
                name="registry_version_transition",
            ),
            path(
                "<int:pk>/contract/",
                view(self.contract_view),
                name="registry_version_contract",
            ),
            path(
                "compare/<int:left>/<int:right>/",
                view(self.compare_view),
                name="registry_version_compare",
            ),
            *super().get_urls(),
        ]

    def add_page(self, request: HttpRequest) -> HttpResponse:
        """Uploads a version; validation follows once the rows are there."""
        return form_page(
            self,
            request,
            form=UploadForm(
                request.POST or None,
                request.FILES or None,
                initial={"model": request.GET.get("model", "")},
            ),
            act=partial(self._upload, request),
            title="Upload a version",
            button="Upload",
            back=reverse("admin:registry_version_changelist"),
            done=lambda version: (
                f"{version} was uploaded and is being checked.",
                version.get_absolute_url(),
            ),
        )

    def _upload(self, request: HttpRequest, given: dict[str, Any]) -> Version:
        version = upload_version(
            model_slug=given["model"].slug,
            version=given["version"],
            files=[("model.onnx", given["file"], None)],
            dataset=given["dataset"],
            metadata={"notes": given["notes"]},
            actor=request.user.get_username(),
        )
        enqueue_after_commit(tasks.validate_version.delay, version.pk)
        return version

    def transition_view(self, request: HttpRequest, pk: int, to: str) -> HttpResponse:
        """Asks for a reason and says what is touched; POST moves the version."""
        version = get_object_or_404(Version.objects.select_related("model"), pk=pk)
        if not request.user.has_perm(DECIDE_VERSION):
            raise PermissionDenied
        if to not in VERBS:
            raise Http404(f"No version can be moved to {to!r}")
        verb = VERBS[VersionState(to)]
        return form_page(
            self,
            request,
            form=TransitionForm(request.POST or None),
            act=lambda given: transition_version(
                version_id=pk,
                to=to,
                actor=request.user.get_username(),
                reason=given["reason"],
            ),
            title=f"{verb} {version}",
            button=f"{verb} {version}",
            back=version.get_absolute_url(),
            done=lambda moved: (
                f"{moved} is {moved.get_state_display().lower()}.",
                moved.get_absolute_url(),
            ),
            intro=f"It is {version.get_state_display().lower()} now.",
            consequences=describe_consequences(version, to),
            is_danger=to == VersionState.YANKED,
        )

    def contract_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks what the outputs mean; POST has the version validated again with it."""
        version = get_object_or_404(Version.objects.select_related("model"), pk=pk)
        if not self.has_change_permission(request, version):
            raise PermissionDenied

        def act(given: dict[str, Any]) -> Version:
            corrected = correct_contract(
                version_id=pk,
                given=given["contract"],
                actor=request.user.get_username(),
                reason=given["reason"],
            )
            enqueue_after_commit(tasks.validate_version.delay, pk)
            return corrected

        return form_page(
            self,
            request,
            form=ContractForm(
                request.POST or None,
                initial={"contract": version.contract_given or version.contract},
            ),
            act=act,
            title=f"What the outputs of {version} mean",
            button="Check it with this",
            back=version.get_absolute_url(),
            done=lambda moved: (f"{moved} is being checked again.", moved.get_absolute_url()),
            intro=version.question or "It is read as below now.",
        )

    @admin.action(description="Compare two versions", permissions=["view"])
    def compare_selected(
        self, request: HttpRequest, queryset: QuerySet[Version]
    ) -> HttpResponse | None:
        chosen = list(queryset.order_by("sequence").values_list("pk", flat=True)[:3])
        if len(chosen) != 2:
            self.message_user(request, "Choose exactly two versions.", messages.WARNING)
            return None
        return HttpResponseRedirect(reverse("admin:registry_version_compare", args=chosen))

    def compare_view(self, request: HttpRequest, left: int, right: int) -> HttpResponse:
        """Two versions side by side."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = Version.objects.select_related("model").in_bulk([left, right])
        if not {left, right} <= set(found):
            raise Http404("There is no such version")
        return TemplateResponse(
            request,
            "registry/compare.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": f"{found[left]} and {found[right]}",
                "left": found[left],
                "right": found[right],
                "rows": compare_versions(facts_of(found[left]), facts_of(found[right])),
            },
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = dict(extra_context or {})
        version = (
            Version.objects.select_related("model", "parent", "dataset")
            .filter(pk=object_id if object_id.isdecimal() else -1)
            .first()
        )
        if version is not None and self.has_view_permission(request, version):
            context["version"] = version
            context["title"] = str(version)
            context["show_save_and_add_another"] = False
            context["page"] = build_page(
                version,
                may_decide=request.user.has_perm(DECIDE_VERSION),
                may_change=self.has_change_permission(request, version),
            )
        return super().change_view(request, object_id, form_url, context)

    def save_model(self, request: HttpRequest, obj: Version, form: Any, change: bool) -> None:
        edit_version(
            version_id=obj.pk,
            actor=request.user.get_username(),
            notes=form.cleaned_data["notes"],
            tags=form.cleaned_data["tags"] or [],
        )

    def log_change(self, request: HttpRequest, obj: Version, message: Any) -> None:
        """Nothing: the service has written an audit event."""
