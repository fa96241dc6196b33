"""What the management API shows."""

from rest_framework import serializers

from ingest.models import (
    DriftEvaluation,
    DriftPolicy,
    Incident,
    IncidentEvent,
    IncidentFinding,
)
from ingest.rules.causes import power_words
from registry.api.strict import KnownFieldsOnly


class DriftEvaluationSerializer(serializers.ModelSerializer[DriftEvaluation]):
    """One judgement, with all it rests on."""

    psi = serializers.SerializerMethodField(help_text="The value, where the metric is a PSI.")
    power = serializers.SerializerMethodField(
        help_text="What this evidence finds in nine of ten cases, in words; null where not tested."
    )
    model = serializers.SlugRelatedField[DriftEvaluation](slug_field="slug", read_only=True)
    version = serializers.SlugRelatedField[DriftEvaluation](slug_field="version", read_only=True)

    class Meta:
        model = DriftEvaluation
        fields = [
            "id",
            "model",
            "version",
            "slice",
            "metric",
            "status",
            "value",
            "psi",
            "power",
            "threshold",
            "threshold_critical",
            "lower_bound",
            "n",
            "n_eff",
            "n_reference",
            "devices",
            "design_effect",
            "bins",
            "p_value",
            "q_value",
            "period_start",
            "period_end",
            "evaluated_at",
            "details",
            "rule",
        ]

    def get_psi(self, row: DriftEvaluation) -> float | None:
        return row.value if "psi" in row.metric else None

    def get_power(self, row: DriftEvaluation) -> str | None:
        return power_words(row.details, row.n_eff) or None


class IncidentEventSerializer(serializers.ModelSerializer[IncidentEvent]):
    """One change of an incident."""

    class Meta:
        model = IncidentEvent
        fields = [
            "action",
            "from_status",
            "to_status",
            "actor",
            "reason",
            "value",
            "threshold",
            "at",
        ]


class IncidentFindingSerializer(serializers.ModelSerializer[IncidentFinding]):
    """One metric of one slice on which an incident shows."""

    class Meta:
        model = IncidentFinding
        fields = [
            "slice",
            "metric",
            "status",
            "severity",
            "value",
            "threshold",
            "opened_at",
            "resolved_at",
            "evaluation",
        ]


class IncidentSerializer(serializers.ModelSerializer[Incident]):
    """An incident: one cause, the findings in which it shows, and its history."""

    findings = IncidentFindingSerializer(many=True, read_only=True)

    model = serializers.SlugRelatedField[Incident](slug_field="slug", read_only=True)
    version = serializers.SlugRelatedField[Incident](slug_field="version", read_only=True)
    rule = serializers.SlugRelatedField[Incident](slug_field="name", read_only=True)
    events = IncidentEventSerializer(many=True, read_only=True)

    class Meta:
        model = Incident
        fields = [
            "id",
            "rule",
            "model",
            "version",
            "slice",
            "metric",
            "headline",
            "status",
            "severity",
            "value",
            "threshold",
            "devices_changed",
            "devices_tested",
            "onset_at",
            "opened_at",
            "fired_at",
            "resolved_at",
            "acknowledged_by",
            "acknowledged_at",
            "muted_until",
            "mute_reason",
            "merged_into",
            "findings",
            "events",
        ]


class AcknowledgeSerializer(KnownFieldsOnly, serializers.Serializer[None]):
    """Body of an acknowledgement."""

    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class MuteSerializer(KnownFieldsOnly, serializers.Serializer[None]):
    """Body of a mute."""

    reason = serializers.CharField(max_length=500)
    until = serializers.DateTimeField()


class ReferenceSerializer(KnownFieldsOnly, serializers.Serializer[None]):
    """Body of a new reference."""

    version = serializers.CharField(max_length=64)
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    reason = serializers.CharField(max_length=500)


class DriftPolicySerializer(KnownFieldsOnly, serializers.ModelSerializer[DriftPolicy]):
    """How a model is judged."""

    model = serializers.SlugRelatedField[DriftPolicy](slug_field="slug", read_only=True)

    class Meta:
        model = DriftPolicy
        exclude = ["id"]


class WindowSummarySerializer(serializers.Serializer[None]):
    """The fleet's counts of one release in one window."""

    start = serializers.DateTimeField()
    seconds = serializers.IntegerField()
    version = serializers.CharField()
    variant = serializers.CharField(allow_null=True)
    cohort = serializers.CharField()
    devices = serializers.IntegerField()
    n = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Failed inferences.")
    error_rate = serializers.FloatField(allow_null=True)
    mean_confidence = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)


class LatencySummarySerializer(serializers.Serializer[None]):
    """Latency of one release on one class of hardware."""

    version = serializers.CharField()
    hardware_class = serializers.CharField()
    devices = serializers.IntegerField()
    n = serializers.IntegerField()
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)
