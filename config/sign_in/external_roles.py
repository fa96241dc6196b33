"""Which roles somebody has who signs in by OpenID Connect: those of their groups elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction

from config.people import describe_access, record_access
from config.roles import ROLES

MOST_GROUPS = 1000


def roles_of(claims: Mapping[str, Any], *, claim: str, role_map: Mapping[str, str]) -> set[str]:
    """The roles that the claims give; none where the claim is missing or is no list of texts."""
    groups = claims.get(claim)
    if isinstance(groups, str):
        groups = [groups]
    if not isinstance(groups, list):
        return set()
    named = {group for group in groups[:MOST_GROUPS] if isinstance(group, str)}
    return {role for group, role in role_map.items() if group in named}


@transaction.atomic
def set_roles(*, user: User, roles: set[str], actor: str) -> None:
    """The user in exactly these of the five roles; other groups of theirs stay.

    Nobody becomes a superuser this way, and who has no role left is of the staff no more.
    """
    before = describe_access(user)
    others = user.groups.exclude(name__in=ROLES)
    user.groups.set([*others, *Group.objects.filter(name__in=roles)])
    if user.is_staff != bool(roles) and not user.is_superuser:
        user.is_staff = bool(roles)
        user.save(update_fields=["is_staff"])
    if describe_access(user) != before:
        record_access(row=user, before=before, actor=actor, verb="changed", words="single sign-on")
