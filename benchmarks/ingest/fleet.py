"""The devices of the benchmark: rows in the database, and the bytes that each sends."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass

from django.utils import timezone

from fleet.authentication import digest_of
from fleet.models import Device, DeviceCredential, Installation
from registry.models import Baseline, Model, Variant, Version, VersionState

RECORDS = 100
"""Of one batch."""
CLASSES = 10
_EDGES = [number / 64 for number in range(1, 64)]


@dataclass(frozen=True)
class Sender:
    """One device as the load generator knows it."""

    device_id: str
    token: str


def make_release() -> Variant:
    """A ready version with one variant and a baseline."""
    labels = [str(number) for number in range(CLASSES)]
    model = Model.objects.create(slug="bench-cnn", labels=labels)
    version = Version.objects.create(
        model=model, version="1.0.0", sequence=1, state=VersionState.READY
    )
    variant = Variant.objects.create(version=version, name="fp32", manifest_sha256="b" * 64)
    features = [
        {"name": name, "edges": _EDGES, "counts": [16] * 64} for name in ("input_mean", "input_std")
    ]
    profile = {
        "schema": "aviary.baseline/1", "n": 1000, "labels": labels,
        "confidence": {"counts": [0] * 32 + [31] * 31 + [39]},
        "class": {"counts": [100] * CLASSES + [0]},
        "latency": {"gamma": 1.05, "counts": {}},
        "features": features, "accuracy": 0.97, "calibration": None,
    }  # fmt: skip
    Baseline.objects.create(version=version, sha256="a" * 64, profile=profile, source="benchmark")
    return variant


def make_devices(variant: Variant, count: int, start: int = 0) -> list[Sender]:
    """`count` accepted devices that have installed `variant`."""
    now = timezone.now()
    senders = [Sender(f"bench-{n:07}", f"avd_bench_{n:07}") for n in range(start, start + count)]
    devices = Device.objects.bulk_create(
        (
            Device(
                device_id=sender.device_id,
                status=Device.Status.ACCEPTED,
                attributes={"site": f"site-{number % 5}", "hardware_class": f"hw-{number % 4}"},
            )
            for number, sender in enumerate(senders)
        ),
        batch_size=2_000,
    )
    DeviceCredential.objects.bulk_create(
        (
            DeviceCredential(device=device, digest=digest_of(sender.token))
            for device, sender in zip(devices, senders, strict=True)
        ),
        batch_size=2_000,
    )
    Installation.objects.bulk_create(
        (
            Installation(
                device=device,
                model=variant.version.model,
                version=variant.version,
                variant=variant,
                manifest_sha256=variant.manifest_sha256,
                assignment_id=f"bench-cnn.1.{device.device_id}",
                counter=1,
                state=Installation.State.COMMITTED,
                offered_at=now,
                updated_at=now,
            )
            for device in devices
        ),
        batch_size=2_000,
    )
    return senders


def make_records(seed: int, start: float | None = None) -> list[bytes]:
    """What `aviary-agent` sends of `RECORDS` inferences, one JSON object each.

    Args:
        start: Unix seconds of the first; a minute ago where None.
    """
    draw = random.Random(seed)
    now = time.time() - 60 if start is None else start
    return [
        json.dumps(
            {
                "timestamp": round(now + number / 10, 3),
                "model": "bench-cnn",
                "model_version": "b" * 64,
                "provider": "CPUExecutionProvider",
                "features": [round(draw.random(), 8), round(draw.random(), 8)],
                "latency_ms": round(draw.lognormvariate(1.0, 0.3), 4),
                "class_id": draw.randrange(CLASSES),
                "confidence": round(draw.betavariate(8, 2), 6),
                "seq": number,
            },
            separators=(",", ":"),
        ).encode()
        for number in range(RECORDS)
    ]


def make_body(records: bytes, device_id: str, batch_id: str) -> bytes:
    """A batch whose list of records is the text `records`."""
    head = f'{{"device_id":"{device_id}","batch_id":"{batch_id}","records":['
    return head.encode() + records + b"]}"
