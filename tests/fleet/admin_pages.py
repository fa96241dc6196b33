"""What the tests of the fleet's pages share."""

from __future__ import annotations

from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fleet.models import Deployment, Device, Installation, Rollout
from fleet.services.rollouts import start_rollout
from registry.models import Model, Variant, Version
from tests.factories import fleet
from tests.factories.registry import make_model

_numbers = count(1)
GATES = [
    {"metric": "prediction_psi", "threshold": 0.1, "min_devices": 3},
    {"metric": "install_failure_rate", "threshold": 0.02, "action": "abort"},
]
STAGES = [{"percent": 50, "bake_seconds": 60}, {"percent": 100}]


def login(*codenames: str) -> Client:
    """A staff member with these permissions alone."""
    user = User.objects.create_user("bob", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def page(name: str, *args: Any) -> str:
    return reverse(f"admin:fleet_{name}", args=args)


def make_running(*, devices: int = 4) -> Rollout:
    """A running rollout with gates and some devices that committed."""
    rollout = make_rollout(stages=STAGES, gates=GATES)
    rollout = start_rollout(rollout_id=rollout.pk, actor="tester", reason="a test")
    variant = Variant.objects.get(version=rollout.target_version)
    for _ in range(devices):
        device, _token = fleet.make_device()
        make_installation(rollout, device, variant)
    return rollout


def make_installation(
    rollout: Rollout, device: Device, variant: Variant, **over: Any
) -> Installation:
    now = timezone.now()
    fields: dict[str, Any] = {
        "model": rollout.deployment.model, "version": rollout.target_version,
        "manifest_sha256": variant.manifest_sha256, "deployment": rollout.deployment,
        "stage_index": 0, "cohort": "canary", "counter": 1, "state": "committed",
        "assignment_id": f"m.1.{device.pk}", "offered_at": now, "updated_at": now,
    }  # fmt: skip
    return Installation.objects.create(
        device=device, rollout=rollout, variant=variant, **{**fields, **over}
    )


def make_version(model: Model | None = None) -> Version:
    """An approved version with one release; its files, which no page reads, are left out."""
    model = model or make_model()
    number = next(_numbers)
    version = Version.objects.create(
        model=model, version=f"1.{number}.0", sequence=number, state="approved"
    )
    Variant.objects.create(version=version, name="fp32", manifest_sha256=f"{number:064x}")
    return version


def make_deployment(**over: Any) -> Deployment:
    """A deployment of a fresh model for every device."""
    return fleet.make_deployment(stable_version=over.get("stable_version") or make_version())


def make_rollout(**over: Any) -> Rollout:
    """A draft of a fresh deployment."""
    deployment = make_deployment()
    target = make_version(deployment.model)
    return fleet.make_rollout(**{"deployment": deployment, "target_version": target, **over})
