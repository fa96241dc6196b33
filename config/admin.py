"""Persons, groups and API tokens, in the look of the other pages."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextInputWidget,
)

from config.api_tokens import MAX_DAYS, make_api_token, revoke_api_token
from config.models import EVERYTHING
from config.people import (
    describe_access,
    end_tokens,
    permission_ids,
    permissions_of,
    record_access,
)
from config.roles import SCOPE_WORDS
from registry.admin.base import form_page
from registry.admin.columns import ago

# allauth's own tables are seen on the pages of whoever they are about, and nowhere else.
for _model in (
    User, Group, AuthToken, Authenticator, EmailAddress, SocialAccount, SocialApp, SocialToken,
):  # fmt: skip
    admin.site.unregister(_model)


class AccessAdmin:
    """What both tables share: each change of them is an audit row with before and after."""

    def get_object(self, request: Any, object_id: Any, from_field: Any = None) -> Any:
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        if row is not None:
            request.access_before = describe_access(row)
        return row

    def log_addition(self, request: Any, obj: Any, message: Any) -> Any:
        record_access(row=obj, before={}, actor=request.user.get_username(), verb="made")
        return super().log_addition(request, obj, message)  # type: ignore[misc]

    def log_change(self, request: Any, obj: Any, message: Any) -> Any:
        words = "password" if "password" in request.resolver_match.url_name else ""
        record_access(
            row=obj,
            before=getattr(request, "access_before", {}),
            actor=request.user.get_username(),
            verb="changed",
            words=words,
        )
        if words:
            # A password that was taken away is no new one, of which Django would tell.
            end_tokens(obj, actor=request.user.get_username())
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def delete_model(self, request: Any, obj: Any) -> None:
        record_access(
            row=obj,
            before=describe_access(obj),
            actor=request.user.get_username(),
            verb="deleted",
        )
        super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: Any, queryset: Any) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)


class NoHigherAdmin:
    """Nobody gives what they do not have, and nobody but a superuser touches a superuser."""

    def _may_touch(self, request: HttpRequest, obj: Any) -> bool:
        """True where the row gives nothing that the caller has not."""
        if obj is None or request.user.is_superuser:
            return True
        return not getattr(obj, "is_superuser", False) and permissions_of(obj) <= set(
            request.user.get_all_permissions()
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        own: bool = super().has_change_permission(request, obj)  # type: ignore[misc]
        return own and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        own: bool = super().has_delete_permission(request, obj)  # type: ignore[misc]
        return own and self._may_touch(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if request.user.is_superuser:
            return ()
        return [name for name in ("is_superuser",) if hasattr(self.model, name)]  # type: ignore[attr-defined]

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        rows = kwargs.get("queryset") or db_field.remote_field.model._default_manager.all()
        if not request.user.is_superuser:
            own = Permission.objects.filter(pk__in=permission_ids(request.user))
            if db_field.name == "groups":
                higher = Permission.objects.exclude(pk__in=own)
                rows = rows.exclude(permissions__in=higher)
            else:
                rows = rows.filter(pk__in=own)
        return super().formfield_for_manytomany(  # type: ignore[misc]
            db_field, request, **{**kwargs, "queryset": rows}
        )


@admin.register(User)
class UserAdmin(NoHigherAdmin, AccessAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
    """Who may log in, and what they may do."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    @transaction.atomic
    def user_change_password(self, request: Any, id: str, form_url: str = "") -> Any:
        """The new password, the ended tokens and the audit rows, or none of them."""
        return super().user_change_password(request, id, form_url)


@admin.register(Group)
class GroupAdmin(NoHigherAdmin, AccessAdmin, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc,type-arg]
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

    name = forms.CharField(
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="What it is for.",
    )
    scopes = forms.MultipleChoiceField(
        choices=[
            *((scope, f"{scope}: {words}") for scope, words in SCOPE_WORDS.items()),
            (EVERYTHING, f"{EVERYTHING}: all that the user may do"),
        ],
        initial=["read"],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="It may do what its user may do at the time, and of that only this.",
    )

    class Meta:
        model = AuthToken
        fields = ["user"]


@admin.register(AuthToken)
class TokenAdmin(ModelAdmin):
    """API tokens: made here, their secret shown once; only a superuser makes other people's."""

    form = TokenForm
    list_display = ["token_key", "what_for", "user", "scopes", "created", "expiry", "last_used"]
    list_select_related = ["user", "grant"]
    list_filter = ["expiry"]
    search_fields = ["token_key", "user__username", "grant__name"]
    fields = ["user", "name", "scopes", "days"]
    actions = ["revoke_selected"]
    actions_detail = ["revoke_one"]

    @display(description="For")
    def what_for(self, row: Any) -> str:
        return row.grant.name if hasattr(row, "grant") else ""

    @display(description="Scopes")
    def scopes(self, row: Any) -> str:
        return ", ".join(row.grant.scopes) if hasattr(row, "grant") else "none"

    @display(description="Last used", ordering="grant__last_used_at")
    def last_used(self, row: Any) -> str:
        return ago(row.grant.last_used_at) if hasattr(row, "grant") else "never"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj is None else self.list_display

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else self.list_display

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
            scopes=form.cleaned_data["scopes"],
            name=form.cleaned_data["name"],
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

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_change_permission(request)

    @action(description="Revoke", permissions=["revoke"], icon="block")
    def revoke_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks once more; POST ends the token."""
        row = get_object_or_404(self.get_queryset(request), pk=unquote(object_id))
        back = reverse("admin:knox_authtoken_changelist")
        return form_page(
            self,
            request,
            form=forms.Form(request.POST if request.method == "POST" else None),
            act=lambda _: revoke_api_token(row=row, actor=request.user.get_username()),
            title=f"Revoke the API token {row.token_key} of {row.user.get_username()}",
            button="Revoke",
            back=back,
            done=lambda _: ("It opens nothing any more.", back),
            intro="Programs that use it are refused from then on. It does not come back.",
            is_danger=True,
        )
