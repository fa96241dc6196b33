"""Reads of the registry that other apps and the surfaces share."""

from datetime import datetime

from django.db.models import QuerySet

from registry.exceptions import NotFoundError
from registry.models import AliasMove, Baseline, Model, Variant, Version


def get_model(slug: str) -> Model:
    """The model of that slug. Raises NotFoundError."""
    try:
        return Model.objects.get(slug=slug)
    except Model.DoesNotExist as error:
        raise NotFoundError(f"There is no model {slug!r}", {"model": slug}) from error


def get_version(slug: str, version: str) -> Version:
    """That version of that model. Raises NotFoundError."""
    try:
        return Version.objects.select_related("model").get(model__slug=slug, version=version)
    except Version.DoesNotExist as error:
        raise NotFoundError(
            f"There is no version {version!r} of {slug!r}", {"model": slug, "version": version}
        ) from error


def deployable_versions(model: Model) -> QuerySet[Version]:
    """Versions of the model that a deployment may name, newest sequence first."""
    versions: QuerySet[Version] = Version.objects.deployable().filter(model=model)
    return versions.order_by("-sequence")


def active_baseline(variant: Variant) -> Baseline | None:
    """The variant's own active baseline, else its version's, else None."""
    return (
        Baseline.objects.filter(variant=variant, is_active=True).first()
        or Baseline.objects.filter(
            version_id=variant.version_id, variant__isnull=True, is_active=True
        ).first()
    )


def alias_version_at(model: Model, name: str, at: datetime) -> Version | None:
    """Which version the alias named at that time; None before its first move."""
    move = (
        AliasMove.objects.filter(alias__model=model, alias__name=name, at__lte=at)
        .select_related("to_version")
        .order_by("-at", "-pk")
        .first()
    )
    return None if move is None else move.to_version
