"""Who a device is: its bearer token and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from fleet.exceptions import DeviceStatusError, NotAuthenticatedError, WrongDeviceError
from fleet.models import Device, DeviceCredential

NEEDS_TOKEN = "This call needs a device token"  # noqa: S105 (words)
UNKNOWN_TOKEN = "The device token is not known"  # noqa: S105 (words)


def new_secret(prefix: str) -> tuple[str, str]:
    """A fresh secret and the digest to keep of it."""
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    return secret, digest_of(secret)


def digest_of(secret: str) -> str:
    """SHA-256: enough for a secret of 256 random bits, and an index finds it in one step."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def bearer_token(header: str) -> str | None:
    """The token of an `Authorization: Bearer …` header, or None."""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token and len(token) <= 256 else None


def find_devices(tokens: Collection[str]) -> dict[str, Device]:
    """The device of each token that is known and not revoked; one query."""
    digests = {digest_of(token): token for token in tokens}
    found = DeviceCredential.objects.select_related("device").filter(
        digest__in=digests, revoked_at__isnull=True
    )
    return {
        digests[credential.digest]: credential.device
        for credential in found
        if credential.digest in digests
    }


def require_accepted(device: Device) -> None:
    """Refuses a device that is not accepted.

    Raises:
        DeviceStatusError: with the status in its code.
    """
    if device.status != Device.Status.ACCEPTED:
        raise DeviceStatusError(
            f"The device is {device.status}",
            {"status": device.status},
            code=f"device_{device.status}",
        )


class DeviceAuthentication(BaseAuthentication):
    """Makes `request.user` the `Device` that the bearer token belongs to."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        token = bearer_token(request.headers.get("Authorization", ""))
        if token is None:
            raise NotAuthenticatedError(NEEDS_TOKEN)
        digest = digest_of(token)
        credential = (
            DeviceCredential.objects.select_related("device")
            .filter(digest=digest, revoked_at__isnull=True)
            .first()
        )
        if credential is None or not hmac.compare_digest(credential.digest, digest):
            raise NotAuthenticatedError(UNKNOWN_TOKEN)
        return credential.device, credential

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class IsAcceptedDevice(BasePermission):
    """Lets accepted devices in, and only under their own name."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        device = request.user
        if not isinstance(device, Device):
            raise NotAuthenticatedError(NEEDS_TOKEN)
        require_accepted(device)
        named = request.query_params.get("device_id")
        if named is not None:
            require_own_id(device, named)
        return True


def require_own_id(device: Device, named: object) -> None:
    """Refuses a request that names another device than its credential's."""
    if named != device.device_id:
        raise WrongDeviceError("The token belongs to another device")


class DeviceAuthenticationScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document describes device tokens."""

    target_class = "fleet.authentication.DeviceAuthentication"
    name = "deviceToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
