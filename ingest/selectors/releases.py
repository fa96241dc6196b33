"""What a device may report about."""

from collections.abc import Collection
from typing import Any

from django.db.models import Q

from fleet.models import Deployment, Device, Installation
from ingest.records import Release
from registry.models import Baseline, Model, Variant, Version, VersionState

_UNRELEASED = (VersionState.DRAFT, VersionState.VALIDATING, VersionState.REJECTED)
Releases = dict[tuple[str | None, str], Release]


def models_of_device(device: Device) -> list[Model]:
    """Models that the device runs, has been offered, or is deployed to by its labels."""
    slugs = set(device.running or {})
    ids = set(
        Installation.objects.filter(device=device).order_by().values_list("model", flat=True)
        .distinct()
    )  # fmt: skip
    labels = device.selectable
    for selector, model_id in Deployment.objects.filter(state=Deployment.State.ACTIVE).values_list(
        "selector", "model_id"
    ):
        if all(labels.get(label) in allowed for label, allowed in (selector or {}).items()):
            ids.add(model_id)
    return list(Model.objects.filter(Q(pk__in=ids) | Q(slug__in=slugs)))


def known_releases(device: Device, names: Collection[str]) -> Releases:
    """The releases among `names` (versions or manifest digests) that `device` may report.

    Keys are (model slug, name), and (None, name) where the device has that name in one model only.
    """
    models = models_of_device(device)
    versions = (
        Version.objects.filter(model__in=models)
        .filter(Q(version__in=names) | Q(variants__manifest_sha256__in=names))
        .exclude(state__in=_UNRELEASED)
        .select_related("model")
        .prefetch_related("variants")
        .distinct()
    )
    installed = dict(
        Installation.objects.filter(device=device, version__in=versions)
        .order_by("pk")
        .values_list("version_id", "variant_id")
    )
    running = set((device.running or {}).values())
    widths = feature_widths(versions)
    found: Releases = {}
    ambiguous: set[str] = set()
    for version in versions:
        variants = {variant.manifest_sha256: variant for variant in version.variants.all()}
        chosen = _variant_in_use(variants, running, installed.get(version.pk))
        offers: list[tuple[str, Variant | None]] = [(version.version, chosen)]
        offers += [(digest, variant) for digest, variant in variants.items() if digest]
        for name, variant in offers:
            release = Release(
                model=version.model.slug,
                version=version.version,
                version_id=version.pk,
                variant_id=variant.pk if variant else None,
                model_id=version.model_id,
                labels=len(version.model.labels),
                features=widths.get(version.pk),
            )
            found[(version.model.slug, name)] = release
            if (None, name) in found and found[(None, name)].model != release.model:
                ambiguous.add(name)
            found[(None, name)] = release
    for name in ambiguous:
        del found[(None, name)]
    return found


def _variant_in_use(
    variants: dict[Any, Variant], running: set[str], installed_id: int | None
) -> Variant | None:
    """Which variant of a version the device means when it names the version alone."""
    for digest, variant in variants.items():
        if digest and digest in running:
            return variant
    for variant in variants.values():
        if variant.pk == installed_id:
            return variant
    return next(iter(variants.values())) if len(variants) == 1 else None


def feature_widths(versions: Any) -> dict[int, int]:
    """Version id to the number of features its active baseline declares, where it declares any."""
    rows = Baseline.objects.filter(version__in=versions, is_active=True, variant=None)
    widths = {row.version_id: len(row.profile.get("features") or []) for row in rows}
    return {version: width for version, width in widths.items() if width}


def baseline_of(version_id: int, variant_id: int | None) -> Baseline | None:
    """The reference for a variant: its own active baseline, else that of its version."""
    rows = Baseline.objects.filter(version_id=version_id, is_active=True)
    own = rows.filter(variant_id=variant_id).first() if variant_id else None
    return own or rows.filter(variant=None).first()


def active_baselines(versions: Collection[int]) -> dict[tuple[int, int | None], Baseline]:
    """The active baselines of `versions` by version and variant (None: of the version)."""
    rows = Baseline.objects.filter(version__in=versions, is_active=True)
    return {(row.version_id, row.variant_id): row for row in rows}
