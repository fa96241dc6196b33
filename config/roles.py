"""The five roles: groups with exact permissions, made of the scopes that API tokens name too.

`docs/roles.md` has the table. A role is an ordinary group, so a superuser may change what it holds;
`manage.py make_roles` puts it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.contrib.auth.models import Permission

APPS = ("registry", "fleet", "ingest", "compression", "notifications")

_PUBLISH = frozenset(
    f"registry.{verb}_{model}"
    for verb in ("add", "change")
    for model in ("model", "version", "variant", "dataset", "alias", "baseline")
) | {"compression.add_job", "compression.change_job", "compression.cancel_job"}
_APPROVE = frozenset({
    "registry.decide_version", "registry.move_protected_alias", "registry.change_alias",
    "fleet.approve_rollout",
})  # fmt: skip
_ROLL_OUT = frozenset(
    f"fleet.{verb}_{model}" for verb in ("add", "change") for model in ("deployment", "rollout")
)
_DEVICES = frozenset(
    f"fleet.{verb}_{model}"
    for verb in ("add", "change")
    for model in ("device", "jointoken", "calibrationbuild")
) | {"fleet.decommission_device"}
_INGEST = frozenset({
    "ingest.add_alertrule", "ingest.change_alertrule", "ingest.delete_alertrule",
    "ingest.change_incident", "ingest.change_inboxbatch", "ingest.add_driftpolicy",
    "ingest.change_driftpolicy",
}) | {
    f"notifications.{verb}_{model}"
    for verb in ("add", "change", "delete")
    for model in ("channel", "rule")
} | {"notifications.change_delivery"}  # fmt: skip
_ADMINISTER = frozenset(
    f"auth.{verb}_{model}"
    for verb in ("view", "add", "change", "delete")
    for model in ("user", "group")
) | {"fleet.release_at_once"}
#: One's own API tokens: everybody has them, and no token makes another.
_TOKENS = frozenset(f"knox.{verb}_authtoken" for verb in ("view", "add", "change"))

#: What acts belong together. `read` is to view every row of Aviary's own tables.
SCOPES: dict[str, frozenset[str]] = {
    "read": frozenset(),
    "publish": _PUBLISH,
    "approve": _APPROVE,
    "roll_out": _ROLL_OUT,
    "devices": _DEVICES,
    "ingest": _INGEST,
    "administer": _ADMINISTER,
}
SCOPE_WORDS = {
    "read": "look at everything of the registry, the fleet, drift and compression",
    "publish": "upload models, versions and data sets; name and move aliases; compress",
    "approve": "approve, deprecate and yank versions; approve rollouts; move protected aliases",
    "roll_out": "make and change deployments; make, start, pause and abort rollouts",
    "devices": "add, accept, suspend and decommission devices; join tokens; fleet samples",
    "ingest": "acknowledge alerts; rules, drift policies, channels; count set-aside batches again",
    "administer": "people and groups; move a whole deployment at once",
}
ROLES: dict[str, tuple[str, ...]] = {
    "viewer": ("read",),
    "publisher": ("read", "publish"),
    "approver": ("read", "approve"),
    "operator": ("read", "roll_out", "devices", "ingest"),
    "admin": tuple(SCOPES),
}


def scope_allows(scopes: Iterable[str], name: str) -> bool:
    """True when one of the scopes has the permission `app.codename`."""
    app, _, codename = name.partition(".")
    return any(
        name in SCOPES.get(scope, ())
        or (scope == "read" and app in APPS and codename.startswith("view_"))
        for scope in scopes
    )


def role_allows(role: str, name: str) -> bool:
    """True when the role has the permission `app.codename`."""
    return name in _TOKENS or scope_allows(ROLES[role], name)


def ensure_roles(*, groups: Any, permissions: Any, names: Collection[str] = tuple(ROLES)) -> None:
    """Makes the groups of the roles and gives each exactly its permissions.

    Args:
        groups: the manager of groups, as a migration or the present code knows them.
        permissions: the manager of permissions.
        names: the roles to make; one that is named in `ROLES`.
    """
    every = list(permissions.select_related("content_type"))
    for role in names:
        group, _ = groups.get_or_create(name=role)
        group.permissions.set(
            row
            for row in every
            if role_allows(role, f"{row.content_type.app_label}.{row.codename}")
        )


def missing_permissions() -> set[str]:
    """What `SCOPES` names and no table has: a name that was misspelt or has gone."""
    known = Permission.objects.values_list("content_type__app_label", "codename")
    there = {f"{app}.{codename}" for app, codename in known}
    return {name for names in SCOPES.values() for name in names} - there
