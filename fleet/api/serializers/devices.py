"""How devices, their incidents, join tokens and installations look in the management API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from fleet.models import Device, DeviceIncident, Installation, JoinToken, SelfTest
from registry.api.strict import KnownFieldsOnly


class JoinTokenSerializer(KnownFieldsOnly, serializers.ModelSerializer[JoinToken]):
    expires_at = serializers.DateTimeField(required=False)

    class Meta:
        model = JoinToken
        fields = [
            "id", "name", "labels", "is_auto_accept", "max_uses", "uses", "expires_at",
            "revoked_at", "created_at",
        ]  # fmt: skip
        read_only_fields = ["uses", "revoked_at", "created_at"]


class DeviceIncidentSerializer(serializers.ModelSerializer[DeviceIncident]):
    device = serializers.SlugRelatedField[DeviceIncident](slug_field="device_id", read_only=True)
    model = serializers.CharField(source="model_slug", read_only=True)
    is_firing = serializers.BooleanField(read_only=True)

    class Meta:
        model = DeviceIncident
        fields = [
            "id", "device", "kind", "model", "metric", "value", "worst", "threshold",
            "manifest_sha256", "is_firing", "opened_at", "reported_at", "resolved_at",
        ]  # fmt: skip


class FiringSerializer(DeviceIncidentSerializer):
    """An incident that has not ended, on a device known from what is around it."""

    class Meta(DeviceIncidentSerializer.Meta):
        fields = ["id", "kind", "model", "metric", "value", "threshold", "opened_at"]


class DeviceSerializer(KnownFieldsOnly, serializers.ModelSerializer[Device]):
    firing = serializers.SerializerMethodField(help_text="What the device itself finds wrong.")

    @extend_schema_field(FiringSerializer(many=True))
    def get_firing(self, device: Device) -> Any:
        rows = getattr(device, "firing", None)  # a list has looked them up for all its rows
        if rows is None:
            rows = device.incidents.firing()
        return FiringSerializer(rows, many=True).data

    class Meta:
        model = Device
        fields = [
            "id", "device_id", "status", "labels", "attributes", "capabilities", "agent_version",
            "running", "quarantined", "pins", "trouble", "readmitted_until", "is_sampling_allowed",
            "poll_count", "last_seen_at", "created_at", "firing",
        ]  # fmt: skip
        read_only_fields = [
            "status", "attributes", "capabilities", "agent_version", "running", "quarantined",
            "pins", "trouble", "readmitted_until", "poll_count", "last_seen_at", "created_at",
        ]  # fmt: skip


class DeviceLabelsSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """What a person may change of a device by PATCH."""

    labels = serializers.JSONField(
        required=False, help_text="All the labels; left out, they stay as they are."
    )


class SelfTestSerializer(serializers.ModelSerializer[SelfTest]):
    """What the device measured when it tried the release."""

    class Meta:
        model = SelfTest
        fields = [
            "rows", "agreed", "labelled", "right", "latency_ms", "processor", "isa", "is_passed",
            "measured_at",
        ]  # fmt: skip


class InstallationSerializer(serializers.ModelSerializer[Installation]):
    device = serializers.CharField(source="device.device_id")
    model = serializers.CharField(source="model.slug")
    version = serializers.CharField(source="version.version")
    variant = serializers.CharField(source="variant.name")
    self_test = SelfTestSerializer(
        allow_null=True, default=None, read_only=True, help_text="Null where none was told."
    )

    class Meta:
        model = Installation
        fields = [
            "id", "device", "model", "version", "variant", "manifest_sha256", "deployment",
            "rollout", "stage_index", "cohort", "assignment_id", "counter", "state", "code",
            "detail", "attempts", "offered_at", "updated_at", "self_test",
        ]  # fmt: skip
