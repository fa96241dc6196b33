"""A device token for a test, made as enrolment makes it."""

from fleet.authentication import new_secret
from fleet.models import Device, DeviceCredential


def issue_token(device: Device) -> str:
    """The bearer token of a fresh credential."""
    token, digest = new_secret("avd")
    DeviceCredential.objects.create(device=device, digest=digest)
    return token
