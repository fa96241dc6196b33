"""Persons, groups and API tokens, in the look of the other pages."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from config.api_tokens import MAX_DAYS, make_api_token, revoke_api_token

for _model in (User, Group, AuthToken):
    admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """Who may log in, and what they may do."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """Permissions that are given together."""


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """Whose token, and for how long."""

    days = forms.IntegerField(
        min_value=1,
        max_value=MAX_DAYS,
        initial=settings.REST_KNOX["TOKEN_TTL"].days,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Until it expires.",
    )

    class Meta:
        model = AuthToken
        fields = ["user"]


@admin.register(AuthToken)
class TokenAdmin(ModelAdmin):
    """API tokens: made here, their secret shown once; only a superuser makes other people's."""

    form = TokenForm
    list_display = ["token_key", "user", "created", "expiry"]
    list_select_related = ["user"]
    list_filter = ["expiry"]
    search_fields = ["token_key", "user__username"]
    actions = ["revoke_selected"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else rows.filter(user=request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A token is not edited; the permission still guards revoking.
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        users = User.objects.filter(is_active=True).order_by("username")
        if not request.user.is_superuser:
            # Somebody else's token would lend their permissions.
            users = users.filter(pk=request.user.pk)
        return super().formfield_for_foreignkey(
            db_field, request, queryset=users, initial=request.user.pk, **kwargs
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        row, secret = make_api_token(
            user=form.cleaned_data["user"],
            days=form.cleaned_data["days"],
            actor=request.user.get_username(),
        )
        obj.pk = row.pk
        obj.shown_secret = secret

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The one answer that carries the secret; no other page can show it."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"API token of {obj.user.get_username()}",
            "opts": self.opts,
            "secret": obj.shown_secret,
            "address": request.build_absolute_uri("/api/v1/models/"),
        }
        return TemplateResponse(request, "admin/api_token.html", context)

    @admin.action(description="Revoke", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset.select_related("user"):
            revoke_api_token(row=row, actor=request.user.get_username())
