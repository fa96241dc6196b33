"""Names that move between versions, each move on record."""

from django.core.exceptions import ValidationError
from django.db import transaction

from registry.exceptions import InvalidFieldError, StateError
from registry.models import Alias, AliasMove, Model, Version
from registry.services.audit import record_event
from registry.states import DEPLOYABLE_STATES


@transaction.atomic
def move_alias(*, version: Version, name: str, actor: str, reason: str = "") -> Alias:
    """The alias, now naming the version; a protected one moves only to an approved version.

    Raises:
        StateError: the version is rejected, yanked, or not approved for a protected alias.
        InvalidFieldError: the name breaks its rule.
    """
    Model.objects.select_for_update().get(pk=version.model_id)
    version = Version.objects.select_related("model").get(pk=version.pk)
    alias = Alias.objects.filter(model=version.model, name=name).first()
    if alias is not None and alias.version_id == version.pk:
        return alias
    is_protected = alias is not None and alias.is_protected
    if not version.is_frozen or version.state in ("rejected", "yanked"):
        raise StateError(f"{version} is {version.state}: no alias can name it")
    if is_protected and version.state not in DEPLOYABLE_STATES:
        raise StateError(f"{name} is protected and {version} is not approved")
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
