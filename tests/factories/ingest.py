"""Rows that tests of the intake start from."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from fleet.models import Device, Installation
from ingest.models import DriftEvaluation, Window
from ingest.rules.bins import latency_bin
from ingest.rules.counting import CellKey
from ingest.rules.windows import WindowCounts
from ingest.services.rollups import append_rollups
from registry.models import Baseline, Model, Variant, Version, VersionState

LABELS = [str(digit) for digit in range(10)]


def make_release(slug: str = "digits-cnn", version: str = "1.0.0", **over: Any) -> Variant:
    """A ready version of a digits model with one variant and a baseline of 1,000 inputs."""
    model, _ = Model.objects.get_or_create(slug=slug, defaults={"labels": LABELS})
    sequence = Version.objects.filter(model=model).count() + 1
    row = Version.objects.create(
        model=model, version=version, sequence=sequence, state=VersionState.READY
    )
    digest = hashlib.sha256(f"{slug}{version}".encode()).hexdigest()
    variant = Variant.objects.create(version=row, name="fp32", manifest_sha256=digest)
    profile = make_profile(**over)
    Baseline.objects.create(
        version=row,
        sha256=hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest(),
        profile=profile,
        source="test",
    )
    return variant


def make_profile(**over: Any) -> dict[str, Any]:
    """A baseline profile: even classes, confidences spread over the upper half."""
    profile = {
        "schema": "aviary.baseline/1",
        "n": 1000,
        "labels": LABELS,
        "confidence": {"counts": [0] * 32 + [31] * 31 + [39]},
        "class": {"counts": [100] * 10 + [0]},
        "latency": {"gamma": 1.05, "counts": {}},
        "features": [
            {"name": "input_mean", "edges": [i / 64 for i in range(1, 64)], "counts": [16] * 64},
            {"name": "input_std", "edges": [i / 64 for i in range(1, 64)], "counts": [16] * 64},
        ],
        "accuracy": 0.97,
        "calibration": None,
    }
    return {**profile, **over}


def make_device(device_id: str = "edge-001", variant: Variant | None = None, **over: Any) -> Device:
    """An accepted device; with `variant`, one that has installed it."""
    fields = {"status": Device.Status.ACCEPTED, "attributes": {"site": "lyon"}, **over}
    device = Device.objects.create(device_id=device_id, **fields)
    if variant is not None:
        now = timezone.now()
        Installation.objects.create(
            device=device,
            model=variant.version.model,
            version=variant.version,
            variant=variant,
            manifest_sha256=variant.manifest_sha256,
            assignment_id=f"{variant.version.model.slug}.1.{device_id}",
            counter=1,
            state=Installation.State.COMMITTED,
            offered_at=now,
            updated_at=now,
        )
    return device


def make_record(**over: Any) -> dict[str, Any]:
    """A record that breaks no rule."""
    record = {
        "timestamp": timezone.now().timestamp(),
        "latency_ms": 2.0,
        "model_version": "1.0.0",
        "confidence": 0.9,
        "class_id": 3,
        "features": [0.5, 0.5],
    }
    return {**record, **over}


def make_window(
    device: Device, variant: Variant, start: datetime, counts: WindowCounts, **over: Any
) -> Window:
    """A window of one device, and its part of the roll-up."""
    key = CellKey(
        device.pk,
        variant.version_id,
        variant.pk,
        over.get("cohort", "stable"),
        int(start.timestamp()),
    )
    append_rollups({key: counts})
    return Window.objects.create(
        device=device,
        version=variant.version,
        variant=variant,
        variant_key=variant.pk,
        start=start,
        n=counts.n,
        errors=counts.errors,
        counts=counts.to_json(),
        **{"seconds": 3600, "cohort": "stable", **over},
    )


def make_evaluation(variant: Variant, **over: Any) -> DriftEvaluation:
    """A healthy judgement of the predictions of all devices."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    fields = {
        "metric": "prediction_psi",
        "slice": "all",
        "status": "healthy",
        "value": 0.02,
        "threshold": 0.2,
        "threshold_critical": 0.4,
        "n": 2000,
        "n_eff": 1500.0,
        "devices": 25,
        "design_effect": 1.3,
        "period_start": at,
        "period_end": at,
        "evaluated_at": at,
        "details": {
            "plan": list(range(10)),
            "labels": LABELS,
            "reference": [100.0] * 10,
            "current": [200.0] * 10,
            "contributions": [0.0] * 10,
        },
    }
    fields.update(over)
    return DriftEvaluation.objects.create(
        model=variant.version.model, version=variant.version, **fields
    )


def make_window_of(
    device: Device, version: Version, *, latency_ms: float, confidence: float, n: int = 100
) -> Window:
    """A window of now in which every record had this latency and confidence."""
    counts = WindowCounts(
        n=n,
        latency_n=n,
        latency_sum=n * latency_ms,
        confidence_n=n,
        confidence_sum=n * confidence,
        latency={latency_bin(latency_ms): n},
    )
    return Window.objects.create(
        device=device,
        version=version,
        start=timezone.now(),
        seconds=3600,
        n=n,
        counts=counts.to_json(),
    )
