"""What the page of a version shows: facts, variants, lineage, uses and events."""

from typing import Any

from django.db.models import PROTECT, ForeignObjectRel, Q
from django.urls import reverse

from registry import hooks
from registry.admin.base import STATE_COLOURS
from registry.admin.columns import ago, copyable
from registry.admin.lineage import Node, draw_lineage
from registry.intervals import wilson_interval
from registry.models import (
    AliasMove,
    AuditEvent,
    Baseline,
    FileRole,
    Variant,
    Version,
    VersionState,
)
from registry.states import CORRECTABLE_STATES, PERSON_TARGETS, can_move
from registry.units import write_bytes, write_count

VERBS = {
    VersionState.APPROVED: "Approve",
    VersionState.DEPRECATED: "Deprecate",
    VersionState.YANKED: "Yank",
}
EVENTS_SHOWN = 50
_OWN_RECORDS = (AliasMove, Baseline, Variant, Version)
_WEIGHTS = (FileRole.MODEL, FileRole.EXTERNAL_DATA)


def build_page(version: Version, *, may_decide: bool, may_change: bool = False) -> dict[str, Any]:
    """The context of `registry/version_page.html`."""
    variants = list(
        version.variants.select_related("derived_from__version").prefetch_related("files__blob")
    )
    on_devices = hooks.device_results(variants)
    return {
        "state": version.get_state_display(),
        "colour": STATE_COLOURS[version.get_state_display()],
        "state_sentence": _state_sentence(version),
        "acts": allowed_acts(version) if may_decide else [],
        "contract": describe_contract(version),
        "notes": version.validation_notes,
        "contract_url": reverse("admin:registry_version_contract", args=[version.pk])
        if may_change and version.state in CORRECTABLE_STATES
        else "",
        "created": ago(version.created_at),
        "inputs": _tensors(version.signature.get("inputs", [])),
        "outputs": _tensors(version.signature.get("outputs", [])),
        "signature": version.signature,
        "variants": _variant_rows(variants),
        "on_devices": [
            {"variant": variant.name, "figures": result.figures, **result.as_row()}
            for variant in variants
            for result in on_devices.get(variant.pk, ())
        ],
        "has_measured": any(v.provenance.get("kind") == "compression" for v in variants),
        "lineage": draw_lineage(_lineage_nodes(version, variants)),
        "uses": hooks.notices(version) + count_uses(version),
        "mark": hooks.marks([version.pk]).get(version.pk, ""),
        "events": _events(version, variants),
    }


def allowed_acts(version: Version) -> list[dict[str, str]]:
    """The buttons that make sense in the version's state."""
    return [
        {
            "label": label,
            "url": reverse("admin:registry_version_transition", args=[version.pk, to]),
            "to": to,
        }
        for to, label in VERBS.items()
        if to in PERSON_TARGETS and can_move(version.state, to)
    ]


def count_uses(version: Version) -> list[str]:
    """How many aliases, deployments, devices and the like, of any app, rely on the version."""
    uses = []
    # Hidden ones too: other apps point here without a name for the way back.
    for relation in Version._meta.get_fields(include_hidden=True):
        if not isinstance(relation, ForeignObjectRel) or relation.on_delete is not PROTECT:
            continue  # What is removed with the version is a record of it, not a use.
        related: Any = relation.related_model
        if related in _OWN_RECORDS:
            continue
        found = related._base_manager.filter(**{relation.field.name: version})
        if any(field.name == "device" for field in related._meta.fields):
            count = found.values("device").distinct().count()
            use = write_count(count, "device", "devices")
            use = f"{use} in {related._meta.verbose_name_plural}"
        else:
            meta = related._meta
            count = found.count()
            use = write_count(count, str(meta.verbose_name), str(meta.verbose_name_plural))
        if count:
            role = str(relation.field.verbose_name)
            uses.append(use if role == "version" else f"{use} as {role}")
    return uses


def describe_consequences(version: Version, to: str) -> list[str]:
    """What a person should know before moving the version to that state."""
    promotable = version.variants.filter(is_promotable=True, manifest_sha256__isnull=False).count()
    first = {
        VersionState.APPROVED: f"Deployments and rollouts may offer {version} to devices: "
        f"{write_count(promotable, 'promotable variant', 'promotable variants')}.",
        VersionState.DEPRECATED: f"{version} stays where it runs and may still be offered; "
        "it is marked as one to move away from.",
        VersionState.YANKED: f"{version} is never offered again, and this cannot be undone. "
        "Devices that run it are offered what their deployment says instead.",
    }[VersionState(to)]
    uses = count_uses(version)
    return [
        first,
        *hooks.foresee_version(version, to),
        f"In use by: {', '.join(uses)}." if uses else "Nothing refers to it now.",
    ]


def facts_of(version: Version) -> dict[str, Any]:
    """What two versions are compared by."""
    return {
        "sequence": version.sequence,
        "state": version.state,
        "metrics": version.metrics,
        "signature": version.signature,
        "preprocessing": version.preprocessing,
        "postprocessing": version.postprocessing,
        "source": version.source,
        "variants": {
            variant.name: {
                "manifest": variant.manifest_sha256,
                "files": {file.path: file.blob_id for file in variant.files.all()},
                "metrics": variant.metrics,
            }
            for variant in version.variants.prefetch_related("files")
        },
    }


def _state_sentence(version: Version) -> str:
    return {
        VersionState.DRAFT: "The upload has not ended.",
        VersionState.VALIDATING: "A child process is checking the files; reload in a moment.",
        VersionState.UNCLEAR: version.question,
        VersionState.READY: "Checked and signed. Approve it to let deployments offer it.",
        VersionState.APPROVED: "Deployments may offer it.",
        VersionState.DEPRECATED: "Still offered where a deployment names it; move away from it.",
        VersionState.YANKED: "Never offered again.",
        VersionState.REJECTED: version.rejection_reason or "The files were refused.",
    }[VersionState(version.state)]


def describe_contract(version: Version) -> list[tuple[str, str]]:
    """What the outputs mean, a line a field; a version from before contracts has none."""
    contract = dict(version.contract)
    if not contract:
        return []
    outputs = contract.pop("outputs", {})
    rows = [("Task", f"{contract.pop('task')}, in the form {contract.pop('form')}")]
    rows += [(f"Output for {role}", name) for role, name in outputs.items()]
    for name, value in contract.items():
        text = str(value) if not isinstance(value, list) else ", ".join(map(str, value[:20]))
        rows.append((name.replace("_", " ").capitalize(), text))
    said = ", ".join(sorted(version.contract_given))
    rows.append(("Said by a person", said) if said else ("Source", "inferred from the graph"))
    return rows


def _tensors(tensors: list[dict[str, Any]]) -> list[str]:
    return [
        f"{item.get('name')} · {item.get('dtype')} [{', '.join(map(str, item.get('shape', [])))}]"
        for item in tensors
    ]


def _variant_rows(variants: list[Variant]) -> list[dict[str, Any]]:
    sizes = {
        variant.pk: sum(f.blob.size_bytes for f in variant.files.all() if f.role in _WEIGHTS)
        for variant in variants
    }
    # The reference of every ratio is the variant that was uploaded, fp32 where there is one.
    origin = next((v for v in variants if v.name == "fp32"), variants[0] if variants else None)
    profiles = {
        baseline.variant_id: baseline.profile
        for baseline in Baseline.objects.filter(variant__in=variants, is_active=True)
    }
    rows = []
    for variant in variants:
        latency = variant.metrics.get("latency_ms") or {}
        size = sizes[variant.pk]
        rows.append(
            {
                "name": variant.name,
                "pk": variant.pk,
                "url": reverse("admin:registry_variant_change", args=[variant.pk]),
                "size": write_bytes(size),
                "ratio": f"{sizes[origin.pk] / size:.2f} ×" if origin and size else "–",
                "accuracy": _accuracy(variant, profiles.get(variant.pk, {})),
                "latency": [
                    f"{latency[key]:.3g} ms" if isinstance(latency.get(key), int | float) else "–"
                    for key in ("p50", "p95", "p99")
                ],
                "digest": copyable(variant.manifest_sha256),
                "is_promotable": variant.is_promotable,
                "key": next(iter(_key_ids(variant)), ""),
            }
        )
    return rows


def _accuracy(variant: Variant, profile: dict[str, Any]) -> str:
    measured = variant.metrics.get("accuracy")
    if isinstance(measured, dict) and {"value", "low", "high", "samples"} <= set(measured):
        low, high = measured["low"], measured["high"]
        return _percent(measured["value"], low, high, measured["samples"])
    interval, judged_on = variant.metrics.get("accuracy_interval"), variant.metrics.get("samples")
    if isinstance(measured, int | float) and interval and judged_on:
        low, high = interval
        return _percent(measured, low, high, judged_on)
    if measured is None:
        measured = profile.get("accuracy")
    if not isinstance(measured, int | float):
        return "–"
    samples = profile.get("n") if measured == profile.get("accuracy") else None
    if not samples:
        return f"{100 * measured:.2f} % (n unknown)"
    return _percent(measured, *wilson_interval(round(measured * samples), samples), samples)


def _percent(value: float, low: float, high: float, samples: int) -> str:
    return f"{100 * value:.2f} % [{100 * low:.2f}, {100 * high:.2f}], n = {samples:,}"


def _key_ids(variant: Variant) -> list[str]:
    return [str(item.get("keyid", "")) for item in variant.envelope.get("signatures", [])]


def _lineage_nodes(version: Version, variants: list[Variant]) -> list[Node]:
    children = list(version.children.order_by("pk")[:8])
    nodes = []
    if version.parent:
        nodes.append(_version_node(version.parent, ()))
    nodes.append(
        _version_node(version, (f"v{version.parent_id}",) if version.parent else (), current=True)
    )
    known = {variant.pk for variant in variants}
    for variant in variants:
        origin = variant.derived_from
        if origin is not None and origin.pk not in known:
            known.add(origin.pk)
            nodes.append(_variant_node(origin, (), f"of {origin.version.version}"))
        parents = (f"a{origin.pk}",) if origin is not None else (f"v{version.pk}",)
        how = variant.provenance.get("kind") or ("derived" if origin else "upload")
        nodes.append(_variant_node(variant, parents, str(how)))
    nodes.extend(_version_node(child, (f"v{version.pk}",)) for child in children)
    return nodes


def _version_node(version: Version, parents: tuple[str, ...], *, current: bool = False) -> Node:
    return Node(
        key=f"v{version.pk}",
        label=version.version,
        detail=f"version · {version.get_state_display().lower()}",
        url=version.get_absolute_url(),
        parents=parents,
        is_current=current,
    )


def _variant_node(variant: Variant, parents: tuple[str, ...], detail: str) -> Node:
    return Node(
        key=f"a{variant.pk}",
        label=variant.name,
        detail=f"variant · {detail}",
        url=reverse("admin:registry_variant_change", args=[variant.pk]),
        parents=parents,
    )


def _events(version: Version, variants: list[Variant]) -> list[dict[str, Any]]:
    keys = [str(variant.pk) for variant in variants]
    events = AuditEvent.objects.filter(
        Q(object_type="registry.version", object_id=str(version.pk))
        | Q(object_type="registry.variant", object_id__in=keys)
    ).order_by("-pk")[:EVENTS_SHOWN]
    return [
        {
            "at": ago(event.at),
            "actor": event.actor,
            "action": event.action,
            "summary": event.summary,
            "reason": event.details.get("reason", ""),
            "url": reverse("admin:registry_auditevent_change", args=[event.pk]),
        }
        for event in events
    ]
