"""Models, and the names that move between their versions."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from registry.admin.base import ListAdmin, form_page
from registry.admin.columns import ago, time_column
from registry.admin.fields import VersionChoiceField
from registry.exceptions import AviaryError
from registry.hooks import foresee_alias, needed_to_move
from registry.models import Alias, Model, Task, Version
from registry.services.aliases import MOVE_PROTECTED, move_alias, protect_alias
from registry.services.audit import record_event
from registry.services.models import create_model

VERSIONS_SHOWN = 20


class ModelForm(forms.Form):
    """What a new model is."""

    slug = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget(),
        help_text="The name that stays, such as digits-cnn.",
    )
    title = forms.CharField(max_length=200, required=False, widget=UnfoldAdminTextInputWidget())
    task = forms.ChoiceField(choices=Task.choices, widget=UnfoldAdminSelectWidget())
    labels = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6}),
        help_text="Class names in the order of the output, one per line.",
    )

    def clean_labels(self) -> list[str]:
        lines = self.cleaned_data["labels"].splitlines()
        return [line.strip() for line in lines if line.strip()]


@admin.register(Model)
class ModelAdmin(ListAdmin):
    """Models with how many versions they have and which one is the champion.

    Slug, task and labels are part of signed manifests and stay; title, owner and tags may change.
    """

    list_before_template = "registry/models_intro.html"
    list_display = ["slug", "title", "task", "version_count", "champion", "owner", "newest"]
    list_filter = ["task", "created_at"]
    list_select_related = ["owner"]
    search_fields = ["slug", "title"]
    ordering = ["slug"]
    csv_fields = ["slug", "title", "task", "owner__username", "created_at"]
    fields = [
        "slug", "title", "task", "labels", "owner", "tags", "alias_list", "version_list",
        "created_at",
    ]  # fmt: skip
    readonly_fields = ["slug", "task", "labels", "alias_list", "version_list", "created_at"]
    autocomplete_fields = ["owner"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        champion = Alias.objects.filter(model=OuterRef("pk"), name="champion")
        models: QuerySet[Model] = super().get_queryset(request)
        return models.annotate(
            versions_total=Count("versions"),
            newest_at=Max("versions__created_at"),
            champion_name=Subquery(champion.values("version__version")[:1]),
        )

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        # The admin's view holds one transaction around this, so row and event live together.
        obj.save(update_fields=["title", "owner", "tags"])
        record_event(
            actor=request.user.get_username(),
            action="model.edited",
            obj=obj,
            summary=f"Model {obj.slug}: {', '.join(form.changed_data) or 'nothing'} changed",
            details={"fields": form.changed_data},
        )

    @display(description="Versions", ordering="versions_total")
    def version_count(self, model: Any) -> str:
        address = reverse("admin:registry_version_changelist")
        return format_html(
            '<a href="{}?model__id__exact={}">{}</a>', address, model.pk, model.versions_total
        )

    @display(description="Champion", ordering="champion_name")
    def champion(self, model: Any) -> str:
        return model.champion_name or "–"

    newest = time_column("Newest version", "newest_at")

    @display(description="Aliases")
    def alias_list(self, model: Model) -> str:
        rows = [
            (reverse("admin:registry_alias_change", args=[alias.pk]), alias.name, alias.version)
            for alias in model.aliases.select_related("version__model")
        ]
        if not rows:
            return format_html(
                'None yet. <a class="underline" href="{}">Name a version</a>, such as champion.',
                reverse("admin:registry_alias_add"),
            )
        return format_html_join(", ", '<a class="underline" href="{}">{}</a> = {}', rows)

    @display(description="Versions")
    def version_list(self, model: Model) -> str:
        rows = [
            (version.get_absolute_url(), version.version, version.get_state_display())
            for version in model.versions.order_by("-sequence")[:VERSIONS_SHOWN]
        ]
        if not rows:
            return format_html(
                'None yet. <a class="underline" href="{}?model={}">Upload one</a>.',
                reverse("admin:registry_version_add"),
                model.pk,
            )
        return format_html_join(", ", '<a class="underline" href="{}">{}</a> {}', rows)

    def add_page(self, request: HttpRequest) -> HttpResponse:
        return form_page(
            self,
            request,
            form=ModelForm(request.POST or None),
            act=lambda given: create_model(
                **given, owner=request.user, actor=request.user.get_username()
            ),
            title="New model",
            button="Create",
            back=reverse("admin:registry_model_changelist"),
            done=lambda model: (f"Model {model} was created.", model.get_absolute_url()),
        )


class AliasForm(forms.Form):
    """Where an alias goes, and why."""

    name = forms.CharField(
        max_length=50, widget=UnfoldAdminTextInputWidget(), help_text="Such as champion."
    )
    version = VersionChoiceField(
        Version.objects.select_related("model").order_by("model__slug", "-sequence")
    )
    reason = forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))


@admin.register(Alias)
class AliasAdmin(ListAdmin):
    """Names that move; each move goes through the service and is kept."""

    list_before_template = "registry/aliases_intro.html"
    list_display = ["name", "model", "version", "is_protected"]
    list_filter = ["name", "is_protected", "model"]
    list_select_related = ["model", "version__model"]
    search_fields = ["name", "model__slug", "version__version"]
    csv_fields = ["model__slug", "name", "version__version", "is_protected"]
    actions = ["protect_selected", "unprotect_selected", "export_csv"]

    def add_page(self, request: HttpRequest) -> HttpResponse:
        return self._move_page(request, AliasForm(request.POST or None), "Name a version")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        alias: Alias | None = self.get_object(request, unquote(object_id))
        if alias is None:
            raise Http404(f"No alias {object_id}")
        if not self.has_change_permission(request, alias):
            if self.has_view_permission(request, alias) and request.method == "GET":
                return super().change_view(request, object_id, form_url, extra_context)
            raise PermissionDenied
        form = AliasForm(
            request.POST or None, initial={"name": alias.name, "version": alias.version_id}
        )
        form.fields["name"].disabled = True
        versions = form.fields["version"]
        assert isinstance(versions, forms.ModelChoiceField)
        versions.queryset = (
            Version.objects.filter(model=alias.model_id)
            .select_related("model")
            .order_by("-sequence")
        )
        moves = alias.moves.select_related("from_version__model", "to_version__model")[:50]
        return self._move_page(
            request,
            form,
            f"Move {alias}",
            consequences=[
                f"{alias.name} names {alias.version} now; people that ask for {alias} get the "
                "other version from then on.",
                *foresee_alias(alias),
                *_protection_words(alias),
            ],
            history=[
                {
                    "when": ago(move.at),
                    "text": f"{move.from_version or 'nothing'} → {move.to_version} "
                    f"by {move.actor}: {move.reason or 'no reason given'}",
                }
                for move in moves
            ],
        )

    def _move(self, request: HttpRequest, given: dict[str, Any]) -> Alias:
        """The alias moved; a protected or followed one only by who may."""
        named = Alias.objects.filter(model=given["version"].model_id, name=given["name"]).first()
        needed = (
            {"registry.change_alias"} | needed_to_move(named) if named else {"registry.add_alias"}
        )
        if not all(request.user.has_perm(name) for name in needed):
            raise PermissionDenied
        return move_alias(
            **given,
            actor=request.user.get_username(),
            may_move_protected=request.user.has_perm(MOVE_PROTECTED),
        )

    @admin.action(description="Protect", permissions=["protect"])
    def protect_selected(self, request: HttpRequest, queryset: QuerySet[Alias]) -> None:
        self._protect(request, queryset, True)

    @admin.action(description="Take the protection away", permissions=["protect"])
    def unprotect_selected(self, request: HttpRequest, queryset: QuerySet[Alias]) -> None:
        self._protect(request, queryset, False)

    def has_protect_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(MOVE_PROTECTED)

    def _protect(self, request: HttpRequest, queryset: QuerySet[Alias], is_protected: bool) -> None:
        for alias in queryset.select_related("model"):
            try:
                protect_alias(
                    alias_id=alias.pk,
                    is_protected=is_protected,
                    actor=request.user.get_username(),
                    reason="from the list of aliases",
                )
            except AviaryError as error:
                self.message_user(request, f"{alias}: {error.message}", messages.ERROR)
            else:
                words = "is protected now" if is_protected else "is no longer protected"
                self.message_user(request, f"{alias} {words}.", messages.SUCCESS)

    def _move_page(
        self, request: HttpRequest, form: AliasForm, title: str, **context: Any
    ) -> HttpResponse:
        back = reverse("admin:registry_alias_changelist")
        return form_page(
            self,
            request,
            form=form,
            act=lambda given: self._move(request, given),
            title=title,
            button="Move" if context else "Name",
            back=back,
            done=lambda alias: (f"{alias} names {alias.version}.", back),
            **context,
        )


def _protection_words(alias: Alias) -> list[str]:
    if not alias.is_protected:
        return []
    return ["It is protected: only an approved version, a reason, and a permission of its own."]
