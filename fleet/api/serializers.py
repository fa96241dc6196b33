"""How the fleet looks in the management API."""

from __future__ import annotations

import math
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from fleet.models import (
    CalibrationBuild,
    Deployment,
    Device,
    DeviceIncident,
    Gate,
    GateEvaluation,
    Installation,
    JoinToken,
    Rollout,
    RolloutEvent,
    RolloutStage,
    SelfTest,
)
from fleet.notices import deployment_notices, rollout_notices, stage_previews
from fleet.selectors import count_states
from registry.api.strict import KnownFieldsOnly
from registry.models import Alias, DataSet, Model, Version


class FiniteField(serializers.FloatField):
    """A number that is one: neither infinite nor NaN, which JSON readers take in."""

    def to_internal_value(self, data: Any) -> float:
        value = float(super().to_internal_value(data))
        if not math.isfinite(value):
            raise serializers.ValidationError(f"expected a finite number, got {value}")
        return value


@extend_schema_field(serializers.CharField())
class VersionField(serializers.RelatedField[Any, Any, Any]):
    """A version as `{"model", "version"}` out, and as its version string or primary key in."""

    def to_representation(self, value: Any) -> Any:
        return value.version

    def to_internal_value(self, data: Any) -> Any:
        text = str(data)
        found = Version.objects.filter(version=text)
        model = self.context.get("model")
        if model is not None:
            found = found.filter(model=model)
        match = list(found[:2])
        if len(match) == 1:
            return match[0]
        if text.isdigit():
            by_key = Version.objects.filter(pk=int(text)).first()
            if by_key is not None:
                return by_key
        raise serializers.ValidationError(
            f"{len(match)} versions are called {text!r}" if match else f"No version {text!r}"
        )


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


class VariantNames(serializers.ListField):
    """The chosen variants of a version, by name; left out in a request, all it can offer now."""

    child = serializers.CharField(max_length=64)

    def to_representation(self, data: Any) -> list[str]:
        return [variant.name for variant in data.all()]


class AliasField(serializers.RelatedField[Any, Any, Any]):
    """An alias of the model by its name."""

    def to_representation(self, value: Any) -> Any:
        return value.name

    def to_internal_value(self, data: Any) -> Any:
        model = self.context.get("model")
        alias = Alias.objects.filter(model=model, name=str(data)).first()
        if alias is None:
            raise serializers.ValidationError(f"{model or 'The model'} has no alias {data!r}")
        return alias


class DeploymentSerializer(KnownFieldsOnly, serializers.ModelSerializer[Deployment]):
    model = serializers.SlugRelatedField(slug_field="slug", queryset=Model.objects.all())
    stable_version = VersionField(
        queryset=Version.objects.select_related("model"), allow_null=True, required=False
    )
    variants = VariantNames(required=False)
    follows = extend_schema_field(serializers.CharField(allow_null=True))(AliasField)(
        queryset=Alias.objects.all(), allow_null=True, required=False
    )
    notices = serializers.SerializerMethodField(help_text="What a person should know, in words.")
    reason = serializers.CharField(
        max_length=500,
        required=False,
        write_only=True,
        help_text="Why; needed for a change at once, and for a version that was taken back.",
    )
    is_at_once = serializers.BooleanField(
        required=False,
        write_only=True,
        help_text="Change version or variants of all devices at once, not by a rollout.",
    )
    confirmed_devices = serializers.IntegerField(
        min_value=0,
        required=False,
        write_only=True,
        help_text="How many devices may move at once; the refusal without it says.",
    )

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_notices(self, deployment: Deployment) -> list[str]:
        return deployment_notices(deployment)

    class Meta:
        model = Deployment
        fields = [
            "id", "name", "model", "selector", "priority", "stable_version", "variants",
            "follows", "state", "floor_sequence", "created_at", "notices", "reason", "is_at_once",
            "confirmed_devices",
        ]  # fmt: skip
        read_only_fields = ["created_at"]


class DeploymentChangeSerializer(DeploymentSerializer):
    """A changed deployment, with the draft that a change of its version has made."""

    proposed_rollout = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="The draft that the change has made, if any."
    )

    class Meta(DeploymentSerializer.Meta):
        fields = [*DeploymentSerializer.Meta.fields, "proposed_rollout"]


class VariantRolloutSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Which variant is to be rolled out to a deployment."""

    variant = serializers.CharField(max_length=64)
    version = serializers.CharField(
        max_length=64, required=False, help_text="Left out: the deployment's stable version."
    )
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class StageSerializer(KnownFieldsOnly, serializers.ModelSerializer[RolloutStage]):
    class Meta:
        model = RolloutStage
        fields = [
            "index", "percent", "canary_selector", "bake_seconds", "patience_seconds",
            "min_devices", "min_samples", "success_threshold", "advance", "started_at",
            "finished_at",
        ]  # fmt: skip
        read_only_fields = ["index", "started_at", "finished_at"]


class StagePreviewSerializer(serializers.Serializer[Any]):
    """How many accepted devices a stage reaches, counted before the start."""

    number = serializers.IntegerField()
    devices = serializers.IntegerField(help_text="Reached in all, earlier stages included.")
    incompatible = serializers.IntegerField(help_text="Of these, no variant fits.")
    unchanged = serializers.IntegerField(help_text="Of these, to run the same variant already.")
    of = serializers.IntegerField(help_text="Devices of the deployment.")


class GateSerializer(KnownFieldsOnly, serializers.ModelSerializer[Gate]):
    latest = serializers.SerializerMethodField()

    class Meta:
        model = Gate
        fields = [
            "id", "metric", "threshold", "action", "is_dry_run", "query", "min_devices",
            "min_samples", "max_age_seconds", "latest",
        ]  # fmt: skip

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_latest(self, gate: Gate) -> dict[str, Any] | None:
        latest = gate.evaluations.order_by("-id").first()
        if latest is None:
            return None
        return {
            "stage_index": latest.stage_index,
            "verdict": latest.verdict,
            "value": latest.value,
            "threshold": latest.threshold,
            "control_value": latest.control_value,
            "lower": latest.details.get("lower"),
            "upper": latest.details.get("upper"),
            "reference": latest.details.get("reference", ""),
            "advice": latest.details.get("advice", ""),
            "devices": latest.devices,
            "samples": latest.samples,
            "at": latest.at,
        }


class RolloutEventSerializer(serializers.ModelSerializer[RolloutEvent]):
    class Meta:
        model = RolloutEvent
        fields = [
            "revision", "action", "from_state", "to_state", "stage_index", "actor", "reason",
            "evidence", "at",
        ]  # fmt: skip


class RolloutSerializer(KnownFieldsOnly, serializers.ModelSerializer[Rollout]):
    """A rollout in a list."""

    target_version = VersionField(queryset=Version.objects.select_related("model"))
    previous_version = VersionField(read_only=True)
    variants = VariantNames(required=False)
    model = serializers.CharField(source="deployment.model.slug", read_only=True)

    class Meta:
        model = Rollout
        fields = [
            "id", "deployment", "model", "target_version", "variants", "previous_version", "state",
            "pause_kind", "reason", "revision", "current_stage", "is_approval_required",
            "max_failures", "max_failure_rate", "max_in_flight",
            "offers_per_minute", "scheduled_at", "started_at", "finished_at", "created_at",
        ]  # fmt: skip
        read_only_fields = [
            "state", "pause_kind", "revision", "current_stage", "started_at", "finished_at",
            "created_at",
        ]  # fmt: skip


class RolloutDetailSerializer(RolloutSerializer):
    """A rollout with its stages, gates, device counts and timeline."""

    stages = StageSerializer(many=True)
    gates = GateSerializer(many=True, required=False)
    devices = serializers.SerializerMethodField()
    events = RolloutEventSerializer(many=True, read_only=True)

    preview = serializers.SerializerMethodField(
        help_text="Before the start: devices that each stage reaches."
    )
    notices = serializers.SerializerMethodField(help_text="What a person should know, in words.")

    class Meta(RolloutSerializer.Meta):
        fields = [
            *RolloutSerializer.Meta.fields, "stages", "gates", "devices", "events", "preview",
            "notices",
        ]  # fmt: skip

    @extend_schema_field(StagePreviewSerializer(many=True))
    def get_preview(self, rollout: Rollout) -> Any:
        return stage_previews(rollout) if rollout.state in Rollout.NOT_STARTED_STATES else []

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_notices(self, rollout: Rollout) -> list[str]:
        return rollout_notices(rollout)

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_devices(self, rollout: Rollout) -> dict[str, int]:
        return count_states(rollout)


class OwnEvidenceSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """A value of a metric of one's own; larger is worse."""

    metric = serializers.RegexField(r"^own:[a-z][a-z0-9_]{0,27}$", max_length=32)
    key = serializers.CharField(max_length=64)
    value = FiniteField()
    lower = FiniteField(required=False, allow_null=True)
    upper = FiniteField(required=False, allow_null=True)
    devices = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False, default=0)
    samples = serializers.IntegerField(min_value=0, max_value=2**53, required=False, default=0)


class GateAnswerSerializer(serializers.ModelSerializer[GateEvaluation]):
    """What a gate said to one value."""

    metric = serializers.CharField(source="gate.metric")

    class Meta:
        model = GateEvaluation
        fields = [
            "id", "metric", "key", "stage_index", "verdict", "value", "threshold", "devices",
            "samples", "at",
        ]  # fmt: skip


class StagePowerSerializer(serializers.Serializer[Any]):
    """What one stage can notice with the devices it reaches."""

    stage = serializers.IntegerField()
    devices = serializers.IntegerField()
    noticed_failure_rate = serializers.FloatField(source="noticed_rate", allow_null=True)
    devices_for_twice_the_limit = serializers.IntegerField(
        source="twice_the_limit", allow_null=True
    )
    can_gates_decide = serializers.BooleanField()
    words = serializers.CharField()


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


class CalibrationBuildSerializer(KnownFieldsOnly, serializers.ModelSerializer[CalibrationBuild]):
    """An order for a calibration set made of fleet samples."""

    model: serializers.SlugRelatedField[Any] = serializers.SlugRelatedField(
        slug_field="slug", queryset=Model.objects.all()
    )
    keep_out: serializers.PrimaryKeyRelatedField[Any] = serializers.PrimaryKeyRelatedField(
        queryset=DataSet.objects.all(), required=False, allow_null=True
    )

    class Meta:
        model = CalibrationBuild
        fields = [
            "id", "model", "name", "rows", "selector", "since", "until", "keep_out", "seed",
            "state", "error", "dataset", "created_by", "created_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = [
            "state", "error", "dataset", "created_by", "created_at", "finished_at",
        ]  # fmt: skip
        # The service says which names are taken, in words.
        validators: list[Any] = []
