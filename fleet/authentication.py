"""Who a device is: its bearer token and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from fleet.exceptions import DeviceStatusError, NotAuthenticatedError, WrongDeviceError
from fleet.models import Device, DeviceCredential


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


class DeviceAuthentication(BaseAuthentication):
    """Makes `request.user` the `Device` that the bearer token belongs to."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        token = bearer_token(request.headers.get("Authorization", ""))
        if token is None:
            raise NotAuthenticatedError("This call needs a device token")
        digest = digest_of(token)
        credential = (
            DeviceCredential.objects.select_related("device")
            .filter(digest=digest, revoked_at__isnull=True)
            .first()
        )
        if credential is None or not hmac.compare_digest(credential.digest, digest):
            raise NotAuthenticatedError("The device token is not known")
        return credential.device, credential

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class IsAcceptedDevice(BasePermission):
    """Lets accepted devices in, and only under their own name."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        device = request.user
        if not isinstance(device, Device):
            raise NotAuthenticatedError("This call needs a device token")
        if device.status != Device.Status.ACCEPTED:
            raise DeviceStatusError(
                f"The device is {device.status}",
                {"status": device.status},
                code=f"device_{device.status}",
            )
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
