"""Makers of fleet rows, through the services that make them in earnest."""

from __future__ import annotations

import io
from datetime import datetime
from itertools import count
from typing import Any

from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from fleet.models import Deployment, Device, Rollout, ServerPresence
from fleet.services.deployments import create_deployment
from fleet.services.devices import set_device_status
from fleet.services.enrolment import create_join_token, enrol_device
from fleet.services.releases import set_release_at_once
from fleet.services.rollouts import create_rollout
from registry.models import FileRole, Model, Variant, VariantFile, Version
from registry.services.blobs import store_blob
from registry.services.inspection import Inspection
from registry.services.variants import finish_variant
from tests.factories.registry import make_model, make_onnx

_numbers = count(1)
POSTPROCESSING = {"scores_output": "logits", "activation": "softmax"}


def make_release(model: Model, data: bytes | None = None) -> Version:
    """An approved version with a signed variant, whose validation is taken as passed.

    The registry's own tests run the validating child; here it would cost seconds a test.
    """
    number = next(_numbers)
    signature = {
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}],
        "opset": 17,
        "ir_version": 8,
    }
    last = model.versions.order_by("-sequence").first()
    version = Version.objects.create(
        model=model,
        version=f"1.{number}.0",
        sequence=last.sequence + 1 if last else 1,
        state="approved",
        signature=signature,
        postprocessing=POSTPROCESSING,
    )
    variant = Variant.objects.create(version=version, name="fp32")
    data = make_onnx(scale=number) if data is None else data
    blob = store_blob(stream=io.BytesIO(data), max_bytes=len(data))
    VariantFile.objects.create(variant=variant, path="model.onnx", role=FileRole.MODEL, blob=blob)
    finish_variant(
        variant=variant,
        inspection=Inspection(signature, {}, "", [], None, None),
        golden_tolerance=None,
        actor="tester",
    )
    return version


def make_join_token(**over: Any) -> str:
    """The secret of a join token that lets a thousand devices in at once."""
    fields: dict[str, Any] = {
        "name": f"token-{next(_numbers)}",
        "actor": "tester",
        "max_uses": 1000,
        "is_auto_accept": True,
    }
    return create_join_token(**{**fields, **over})[1]


def make_device(*, status: str = "accepted", **over: Any) -> tuple[Device, str]:
    """An enrolled device and its token."""
    fields: dict[str, Any] = {
        "device_id": f"edge-{next(_numbers):04d}",
        "join_token": make_join_token(is_auto_accept=status in ("accepted", "suspended")),
        "attributes": {"site": "lab"},
        "capabilities": {"arch": "x86_64", "providers": ["cpu"], "memory_mb": 4096},
    }
    device, token = enrol_device(**{**fields, **over})
    if status != device.status:
        device = set_device_status(device_id=device.device_id, status=status, actor="tester")
    return device, token


def make_deployment(**over: Any) -> Deployment:
    """A deployment of a fresh model at its first version, for every device."""
    if "stable_version" not in over:
        over["stable_version"] = make_release(make_model())
    fields: dict[str, Any] = {
        "name": f"deployment-{next(_numbers)}",
        "model": over["stable_version"].model,
        "actor": "tester",
    }
    return create_deployment(**{**fields, **over})


def set_at_once(deployment: Deployment, version: Version, **over: Any) -> Deployment:
    """The deployment at another version, which a person set for all its devices."""
    fields: dict[str, Any] = {"actor": "tester", "reason": "test", "confirmed_devices": 10**6}
    return set_release_at_once(deployment_id=deployment.pk, version=version, **{**fields, **over})


def server_was_there(*, since: datetime) -> None:
    """The server has ticked and answered without a gap from then until now."""
    now = timezone.now()
    cache.set("fleet:web:heard", now.timestamp(), None)
    ServerPresence.objects.update_or_create(id=1, defaults={"seen_at": now, "counted_from": since})


#: Which devices a stage reaches follows from the salt: a fixed one makes it the same in each run.
SALT = "0123456789abcdef"


def make_rollout(**over: Any) -> Rollout:
    """A draft that goes to every device in one stage without a bake."""
    deployment = over.pop("deployment", None) or make_deployment()
    target = over.pop("target_version", None) or make_release(deployment.model)
    stage = {"percent": 100, "bake_seconds": 0, "min_devices": 1}
    fields: dict[str, Any] = {"stages": [stage], "actor": "tester"}
    rollout = create_rollout(
        deployment_id=deployment.pk, target_version=target, **{**fields, **over}
    )
    rollout.salt = SALT
    rollout.save(update_fields=["salt"])
    return rollout


def manifest_of(version: Version) -> str:
    """The digest of a version's only release."""
    return str(Variant.objects.get(version=version).manifest_sha256)


class DeviceClient:
    """A device's side of the protocol, over Django's test client."""

    def __init__(self, device: Device, token: str) -> None:
        self.device = device
        self.token = token
        self.client = Client(headers={"Authorization": f"Bearer {token}"})
        self.etag = ""
        self.running = ""

    def poll(self, model: str, **headers: str) -> Any:
        sent = {"X-Running-Digest": self.running, "X-Agent-Version": "0.1.0", **headers}
        if self.etag:
            sent.setdefault("If-None-Match", self.etag)
        response = self.client.get(
            "/api/models/latest",
            {"device_id": self.device.device_id, "model": model},
            headers=sent,
        )
        if response.status_code == 200:
            self.etag = response["ETag"]
        return response

    def report(self, assignment_id: str, *states: str, start: int = 0, **fields: Any) -> Any:
        events = [
            {"seq": start + number, "state": state, **fields} for number, state in enumerate(states)
        ]
        return self.client.post(
            f"/api/deployments/{assignment_id}/events", events, content_type="application/json"
        )

    def install(self, model: str) -> dict[str, Any]:
        """Polls, commits what is assigned, and reports it."""
        self.etag = ""
        answer: dict[str, Any] = self.poll(model).json()
        response = self.report(
            answer["assignment_id"], "downloading", "verified", "trial", "committed"
        )
        assert response.status_code == 200, response.content
        self.running = (
            Variant.objects.get(
                version__model__slug=model,
                version__version=answer["version"],
                name=answer["variant"],
            ).manifest_sha256
            or ""
        )
        return answer


def make_client(**over: Any) -> DeviceClient:
    """A new device, ready to call."""
    return DeviceClient(*make_device(**over))
