"""Devices, how they join, and what they are not to be offered."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from fleet.models.label_overlay import LabelOverlay

DELTA_FEATURE = "delta-zstd"


class Device(models.Model):
    """One edge device, known by the id it enrolled with."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        ACCEPTED = "accepted", "Accepted"
        SUSPENDED = "suspended", "Suspended"
        DECOMMISSIONED = "decommissioned", "Decommissioned"
        REJECTED = "rejected", "Rejected"

    #: A device is what a device token authenticates; it never has a person's permissions.
    is_authenticated = True

    TERMINAL_STATUSES = frozenset({Status.DECOMMISSIONED, Status.REJECTED})

    device_id = models.CharField(max_length=128, unique=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    labels = models.JSONField(
        default=dict, blank=True, help_text="Set by people; win over attributes."
    )
    attributes = models.JSONField(default=dict, blank=True, help_text="Reported by the device.")
    effective_labels = models.GeneratedField(
        expression=LabelOverlay("attributes", "labels"),
        output_field=models.JSONField(),
        db_persist=True,
        help_text="Attributes overruled by labels, indexed for selectors.",
    )
    capabilities = models.JSONField(default=dict, blank=True)
    agent_version = models.CharField(max_length=64, blank=True)
    is_sampling_allowed = models.BooleanField(
        default=False, help_text="The device may send sampled inputs."
    )
    sampling_changed_at = models.DateTimeField(
        null=True, blank=True, help_text="When a person last allowed or forbade sampling."
    )
    generation = models.PositiveBigIntegerField(
        default=0, help_text="Rises with every change that could alter this device's assignments."
    )
    quarantined = models.JSONField(
        default=list, blank=True, help_text="Manifest digests not to be offered to this device."
    )
    pins = models.JSONField(
        default=dict, blank=True, help_text="Model slug to the manifest digest held by a person."
    )
    running = models.JSONField(
        default=dict, blank=True, help_text="Model slug to the manifest digest last reported."
    )
    trouble = models.JSONField(
        default=dict, blank=True, help_text="What the agent last said stands in its way."
    )
    readmitted_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then a join token may enrol this id again."
    )
    poll_count = models.PositiveBigIntegerField(default=0)
    last_seen_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["device_id"]
        permissions = [("decommission_device", "Can decommission a device")]
        indexes = [
            models.Index(fields=["status", "device_id"], name="fleet_device_status"),
            models.Index(fields=["agent_version", "device_id"], name="fleet_device_agent"),
        ]

    def __str__(self) -> str:
        return self.device_id

    @property
    def has_delta_support(self) -> bool:
        """True when the agent said at enrolment that it can apply patches."""
        features = self.capabilities.get("features")
        return isinstance(features, list) and DELTA_FEATURE in features

    @property
    def selectable(self) -> dict[str, str]:
        """Labels a selector sees: attributes, overruled by labels, plus the id itself."""
        return {**self.attributes, **self.labels, "device_id": self.device_id}


class DeviceCredential(models.Model):
    """The digest of one bearer token of a device; the token itself is never stored."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="credentials")
    digest = models.CharField(max_length=64, unique=True)
    nonce_digest = models.CharField(
        max_length=64, blank=True, help_text="Of the secret that a repeated enrolment must bring."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.device_id}:{self.digest[:8]}"


class JoinToken(models.Model):
    """A secret that lets a limited number of devices enrol until it expires."""

    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    labels = models.JSONField(default=dict, blank=True)
    is_auto_accept = models.BooleanField(default=False)
    max_uses = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(uses__lte=F("max_uses")), name="fleet_join_token_uses_within_limit"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Quarantine(models.Model):
    """One release that one device has failed to install too often."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="quarantines")
    manifest_sha256 = models.CharField(max_length=64)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    cleared_at = models.DateTimeField(null=True, blank=True)
    cleared_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "manifest_sha256"],
                condition=Q(cleared_at__isnull=True),
                name="fleet_quarantine_one_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device}: {self.manifest_sha256[:12]}"


class Telemetry(models.Model):
    """One report of a device about itself: resources, providers and events."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="telemetry")
    received_at = models.DateTimeField(auto_now_add=True)
    resources = models.JSONField(default=dict)
    providers = models.JSONField(default=dict)
    events = models.JSONField(default=list)
    spool = models.JSONField(
        default=dict, help_text="What waits on the device, and what was dropped or refused."
    )
    drift = models.JSONField(default=dict, help_text="Model slug to the device's own drift scores.")
    sampling = models.JSONField(
        default=dict, help_text="Whether the agent samples inputs, and what waits to be sent."
    )
    latency = models.JSONField(default=dict, help_text="Model slug to recent latency in ms.")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "telemetry"
        indexes = [models.Index(fields=["device", "-id"], name="fleet_telemetry_device")]

    def __str__(self) -> str:
        return f"{self.device} at {self.received_at}"
