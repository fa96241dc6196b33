"""How rollouts, their stages, gates and timeline look in the management API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from fleet.api.serializers.fields import FiniteField, VariantNames, VersionField
from fleet.models import Gate, GateEvaluation, Rollout, RolloutEvent, RolloutStage
from fleet.notices import rollout_notices, stage_previews
from fleet.selectors import count_states
from registry.api.strict import KnownFieldsOnly
from registry.models import Version


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
