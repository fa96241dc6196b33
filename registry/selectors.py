"""Reads of the registry that other apps and the surfaces share."""

from registry.exceptions import NotFoundError
from registry.models import Baseline, Model, Variant, Version


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


def active_baseline(variant: Variant) -> Baseline | None:
    """The variant's own active baseline, else its version's, else None."""
    return (
        Baseline.objects.filter(variant=variant, is_active=True).first()
        or Baseline.objects.filter(
            version_id=variant.version_id, variant__isnull=True, is_active=True
        ).first()
    )
