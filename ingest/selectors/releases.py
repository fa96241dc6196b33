"""What a device may report about."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db.models import Q

from fleet.models import Deployment, Device, Installation
from fleet.rules.assignment import matches
from ingest.records import Release
from registry.models import Baseline, Variant, Version
from registry.states import NEVER_RAN

CLASSES = "classification"
Releases = dict[tuple[str | None, str], Release]


@dataclass(frozen=True)
class _Catalog:
    """What some devices have, and the versions that have some names; a few queries for all."""

    versions: list[Version]
    widths: dict[int, int]
    models: dict[int, str]
    installed: dict[int, dict[int, int | None]]
    """Device to the variant that it last installed of each version."""
    of_device: dict[int, set[int]]
    """Device to the models that it ever installed."""
    deployed: list[tuple[dict[str, Any], int]]


def known_releases(device: Device, names: Collection[str]) -> Releases:
    """The releases among `names` (versions or manifest digests) that `device` may report.

    Keys are (model slug, name), and (None, name) where the device has that name in one model only.
    """
    return releases_of_devices([(device, names)])[device.pk]


def releases_of_devices(
    wanted: Sequence[tuple[Device, Collection[str]]],
) -> dict[int, Releases]:
    """`known_releases` of each device by its key; seven queries, however many devices."""
    catalog = _read_catalog(
        {device.pk for device, _ in wanted}, {name for _, names in wanted for name in names}
    )
    found: dict[int, Releases] = {}
    for device, names in wanted:
        # A device that sent twice may have named other releases in each.
        found.setdefault(device.pk, {}).update(_releases(device, set(names), catalog))
    return found


def _read_catalog(devices: Collection[int], names: Collection[str]) -> _Catalog:
    versions = list(
        Version.objects.filter(Q(version__in=names) | Q(variants__manifest_sha256__in=names))
        .exclude(state__in=NEVER_RAN)
        .select_related("model")
        .prefetch_related("variants")
        .distinct()
        .order_by("pk")
    )
    installed: dict[int, dict[int, int | None]] = defaultdict(dict)
    of_device: dict[int, set[int]] = defaultdict(set)
    rows = Installation.objects.filter(device__in=devices).order_by("pk")
    for device, model, version, variant in rows.values_list(
        "device_id", "model_id", "version_id", "variant_id"
    ):
        installed[device][version] = variant
        of_device[device].add(model)
    active = Deployment.objects.filter(state=Deployment.State.ACTIVE)
    return _Catalog(
        versions=versions,
        widths=feature_widths({version.pk for version in versions}),
        models={version.model_id: version.model.slug for version in versions},
        installed=installed,
        of_device=of_device,
        deployed=[(s or {}, model) for s, model in active.values_list("selector", "model_id")],
    )


def _releases(device: Device, names: Collection[str], catalog: _Catalog) -> Releases:
    """Of models that the device runs, has been offered, or is deployed to by its labels."""
    running = device.running or {}
    labels = device.selectable
    models = {pk for pk, slug in catalog.models.items() if slug in running}
    models |= catalog.of_device.get(device.pk, set())
    models |= {model for selector, model in catalog.deployed if matches(selector, labels)}
    installed = catalog.installed.get(device.pk, {})
    digests = set(running.values())
    found: Releases = {}
    ambiguous: set[str] = set()
    for version in catalog.versions:
        if version.model_id not in models:
            continue
        variants = {variant.manifest_sha256: variant for variant in version.variants.all()}
        chosen = _variant_in_use(variants, digests, installed.get(version.pk))
        offers: list[tuple[str, Variant | None]] = [(version.version, chosen)]
        offers += [(digest, variant) for digest, variant in variants.items() if digest]
        for name, variant in offers:
            if name not in names:
                continue
            release = Release(
                model=version.model.slug,
                version=version.version,
                version_id=version.pk,
                variant_id=variant.pk if variant else None,
                model_id=version.model_id,
                labels=len(version.model.labels),
                features=catalog.widths.get(version.pk),
                has_classes=version.contract.get("task", CLASSES) == CLASSES,
                has_confidence=version.contract.get("form") != "label",
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


def feature_widths(versions: Collection[int]) -> dict[int, int]:
    """Version id to the number of features its active baseline declares, where it declares any."""
    rows = Baseline.objects.filter(version__in=versions, is_active=True, variant=None)
    widths = {
        version: _feature_width(pk, sha256)
        for pk, version, sha256 in rows.values_list("pk", "version_id", "sha256")
    }
    return {version: width for version, width in widths.items() if width}


@lru_cache(maxsize=1024)
def _feature_width(baseline_id: int, sha256: str) -> int:
    """Of a baseline with this digest: a profile is large and never changes under its digest."""
    profile = Baseline.objects.values_list("profile", flat=True).get(pk=baseline_id, sha256=sha256)
    return len(profile.get("features") or [])


def current_digests(
    told: Collection[tuple[int, int | None, str]],
) -> dict[tuple[int, int | None, str], str]:
    """The active reference's digest for version, variant and the digest that a device counts by.

    A reference that was pinned since keeps the edges of the one before it, so that counts by the
    one are counts by the other; where the edges differ, the device's own digest stays. One query
    and, once for each pair of references, two.
    """
    rows = Baseline.objects.filter(version__in={key[0] for key in told}, is_active=True)
    active: dict[tuple[int, int | None], str] = {}
    for version_id, variant_id, sha256 in rows.values_list("version_id", "variant_id", "sha256"):
        active[version_id, variant_id] = sha256
    found = {}
    for version, variant, digest in told:
        now = active.get((version, variant)) or active.get((version, None))
        is_same = now and (now == digest or _have_same_edges(version, digest, now))
        found[version, variant, digest] = now if now and is_same else digest
    return found


@lru_cache(maxsize=1024)
def _have_same_edges(version_id: int, digest: str, other: str) -> bool:
    edges = []
    for sha256 in (digest, other):
        rows = Baseline.objects.filter(version_id=version_id, sha256=sha256)
        profile = rows.values_list("profile", flat=True).first()
        features = (profile or {}).get("features") or []
        edges.append([(feature["name"], feature["edges"]) for feature in features])
    return bool(edges[0]) and edges[0] == edges[1]


def baseline_of(version_id: int, variant_id: int | None) -> Baseline | None:
    """The reference for a variant: its own active baseline, else that of its version."""
    rows = Baseline.objects.filter(version_id=version_id, is_active=True)
    own = rows.filter(variant_id=variant_id).first() if variant_id else None
    return own or rows.filter(variant=None).first()


def active_baselines(versions: Collection[int]) -> dict[tuple[int, int | None], Baseline]:
    """The active baselines of `versions` by version and variant (None: of the version)."""
    rows = Baseline.objects.filter(version__in=versions, is_active=True)
    return {(row.version_id, row.variant_id): row for row in rows}
