"""What changes who may do what leaves an audit row, and ends the tokens that it must end."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.http import HttpRequest
from knox.models import AuthToken

from config.api_tokens import revoke_api_token
from registry.quotas import QuotaError, caller_address, take_quota
from registry.services.audit import record_event

_FLAGS = ("username", "email", "is_active", "is_staff", "is_superuser")


@transaction.atomic
def end_tokens(user: Any, *, actor: str) -> int:
    """How many API tokens of the user were revoked: all of them."""
    rows = list(AuthToken.objects.filter(user=user).select_related("user"))
    for row in rows:
        revoke_api_token(row=row, actor=actor)
    return len(rows)


class PasswordWatch:
    """The validator that Django tells of every new password, whichever way it came."""

    def validate(self, password: str, user: Any = None) -> None:
        """Nothing: what a password must be, the other validators say."""

    def get_help_text(self) -> str:
        """What the form says beside the field."""
        return "A new password ends the person's API tokens."

    @transaction.atomic
    def password_changed(self, password: str, user: Any = None) -> None:
        """Records the change and ends the tokens; Django knows not who asked for it."""
        if user is None or user.pk is None:
            return
        record_event(
            actor="system",
            action="user.password_changed",
            obj=user,
            summary=f"The password of {user.get_username()} was changed",
        )
        end_tokens(user, actor="system")


def permission_ids(row: User | Group) -> set[int]:
    """The keys of every permission that the user or group has, by whichever way."""
    if isinstance(row, Group):
        return set(row.permissions.values_list("pk", flat=True))
    direct = row.user_permissions.values_list("pk", flat=True)
    by_groups = Permission.objects.filter(group__user=row).values_list("pk", flat=True)
    return set(direct) | set(by_groups)


def permissions_of(row: User | Group) -> set[str]:
    """The same by name, `app.codename`."""
    found = Permission.objects.filter(pk__in=permission_ids(row))
    return {
        f"{app}.{name}" for app, name in found.values_list("content_type__app_label", "codename")
    }


def describe_access(row: User | Group) -> dict[str, Any]:
    """What the user or group may do, without its password; as it is in the database."""
    named = row.permissions if isinstance(row, Group) else row.user_permissions
    labels = named.values_list("content_type__app_label", "codename")
    permissions = sorted(f"{app}.{name}" for app, name in labels)
    if isinstance(row, Group):
        return {"name": row.name, "permissions": permissions}
    flags = User.objects.filter(pk=row.pk).values(*_FLAGS).get()
    groups = sorted(row.groups.values_list("name", flat=True))
    return {**flags, "groups": groups, "permissions": permissions}


@transaction.atomic
def record_access(
    *, row: User | Group, before: dict[str, Any], actor: str, verb: str, words: str = ""
) -> None:
    """One audit row that says what a person changed of a user or group."""
    after = {} if verb == "deleted" else describe_access(row)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    kind = "group" if isinstance(row, Group) else "user"
    record_event(
        actor=actor,
        action=f"{kind}.{verb}",
        obj=row,
        summary=f"{kind} {row}: {verb} ({words or ', '.join(changed) or 'nothing changed'})"[:200],
        details={
            "before": {name: before.get(name) for name in changed},
            "after": {name: after.get(name) for name in changed},
        },
    )
    if isinstance(row, User) and after and not after["is_active"]:
        end_tokens(row, actor=actor)


def record_refused_stranger(request: HttpRequest, way: str) -> None:
    """An audit row for somebody whom another service knows and who has no role here; bounded."""
    try:
        take_quota("login_audit", "all")
    except QuotaError:
        return
    record_event(
        actor="system",
        action="user.login_failed",
        obj=None,
        summary=f"A login by {way} was refused: no group of theirs has a role",
        details={"address": caller_address(request.META)},
    )


def record_failed_login(request: HttpRequest) -> None:
    """An audit row for a login that was refused, at most `login_audit` of them a minute.

    A name that nobody has is not written down: some type their password there.
    """
    try:
        take_quota("login_audit", "all")
    except QuotaError:
        return
    name = request.POST.get("login", "")[:150].replace("\0", "")
    user = User.objects.filter(username=name).first() if name.isprintable() else None
    who = user.get_username() if user else "a name that nobody has"
    record_event(
        actor="system",
        action="user.login_failed",
        obj=user,
        summary=f"A login as {who} was refused",
        details={"address": caller_address(request.META)},
    )
