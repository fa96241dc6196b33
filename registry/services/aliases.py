"""Names that move between versions, each move on record."""

from django.core.exceptions import ValidationError
from django.db import transaction

from registry import hooks
from registry.exceptions import AliasProtectedError, InvalidFieldError, StateError
from registry.models import Alias, AliasMove, Model, Version
from registry.services.audit import record_event
from registry.states import DEPLOYABLE_STATES

MOVE_PROTECTED = "registry.move_protected_alias"


@transaction.atomic
def move_alias(
    *,
    version: Version,
    name: str,
    actor: str,
    reason: str = "",
    may_move_protected: bool = False,
) -> Alias:
    """The alias, now naming the version; a deployment that follows it gets a rollout.

    A protected alias moves only to an approved version, with a reason, and by who may.

    Args:
        may_move_protected: the actor has the permission `registry.move_protected_alias`.

    Raises:
        StateError: the version is rejected, yanked, or not approved for a protected alias.
        InvalidFieldError: the name breaks its rule, or a protected alias has no reason.
        AliasProtectedError: it is protected and the actor may not move such.
    """
    Model.objects.select_for_update(no_key=True).get(pk=version.model_id)
    version = Version.objects.select_related("model").get(pk=version.pk)
    alias = Alias.objects.filter(model=version.model, name=name).first()
    if alias is not None and alias.version_id == version.pk:
        return alias
    is_protected = alias is not None and alias.is_protected
    if not version.is_frozen or version.state in ("rejected", "yanked"):
        raise StateError(f"{version} is {version.state}: no alias can name it")
    if is_protected and not may_move_protected:
        raise AliasProtectedError(
            f"{name} is protected; moving it needs the permission {MOVE_PROTECTED}"
        )
    if is_protected and version.state not in DEPLOYABLE_STATES:
        raise StateError(f"{name} is protected and {version} is not approved")
    if is_protected and not reason.strip():
        raise InvalidFieldError(
            f"{name} is protected: moving it needs a reason", {"reason": "required"}
        )
    before = None
    if alias is None:
        alias = Alias(model=version.model, name=name, version=version)
        try:
            alias.full_clean()
        except ValidationError as error:
            raise InvalidFieldError("The alias has invalid fields", error.message_dict) from error
        alias.save(force_insert=True)
    else:
        before, alias.version = alias.version, version
        alias.save(update_fields=["version"])
    hooks.alias_moved(alias, hooks.Change(actor, reason))
    AliasMove.objects.create(
        alias=alias, from_version=before, to_version=version, actor=actor, reason=reason
    )
    record_event(
        actor=actor,
        action="alias.moved",
        obj=alias,
        summary=f"{name} now names {version}",
        details={"from": before.version if before else None, "to": version.version},
    )
    return alias


@transaction.atomic
def protect_alias(*, alias_id: int, is_protected: bool, actor: str, reason: str) -> Alias:
    """The alias, protected or no longer so.

    Raises:
        InvalidFieldError: there is no reason. StateError: the version it names is not approved.
    """
    alias = Alias.objects.select_for_update(of=("self",)).select_related("version").get(pk=alias_id)
    if alias.is_protected == is_protected:
        return alias
    if not reason.strip():
        raise InvalidFieldError(
            f"Changing the protection of {alias.name} needs a reason", {"reason": "required"}
        )
    if is_protected and alias.version.state not in DEPLOYABLE_STATES:
        raise StateError(
            f"{alias.version} is {alias.version.state}: approve it before protecting {alias.name}"
        )
    alias.is_protected = is_protected
    alias.save(update_fields=["is_protected"])
    record_event(
        actor=actor,
        action="alias.protected" if is_protected else "alias.unprotected",
        obj=alias,
        summary=f"{alias.name} is {'now' if is_protected else 'no longer'} protected",
        details={"reason": reason},
    )
    return alias
