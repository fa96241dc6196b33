"""What a job looks like in the API, and what it is ordered with."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from compression import selectors
from compression.models import Job
from compression.recipe.presets import PRESETS
from compression.states import JobState
from compression.worker.progress import Progress, describe_progress
from registry.api.fields import CheckedJSONField
from registry.api.strict import KnownFieldsOnly
from registry.models import DataSet, Variant, Version


class ProgressSerializer(serializers.Serializer[Any]):
    """How far a job is."""

    fraction = serializers.FloatField(help_text="Of the whole recipe, 0 to 1.")
    eta_seconds = serializers.FloatField(
        allow_null=True, help_text="Until the end of the recipe; null while nothing is known."
    )
    index = serializers.IntegerField(allow_null=True, help_text="The running step, from 0.")
    steps = serializers.IntegerField(help_text="Passes of the recipe, and measuring.")
    name = serializers.CharField(help_text="The running step; empty when none is.")
    done = serializers.IntegerField(allow_null=True, help_text="Parts of the step that are done.")
    total = serializers.IntegerField(allow_null=True)
    step_eta_seconds = serializers.FloatField(allow_null=True)
    queue_position = serializers.IntegerField(
        allow_null=True, help_text="Queued jobs that come first."
    )


class JobRowSerializer(serializers.ModelSerializer[Job]):
    """A job without its report."""

    version_name = serializers.CharField(source="version.__str__", read_only=True)
    progress = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id",
            "version",
            "version_name",
            "source_variant",
            "preset",
            "variant_name",
            "calibration_dataset",
            "evaluation_dataset",
            "state",
            "progress",
            "error",
            "result_variant",
            "identity",
            "rerun_of",
            "attempts",
            "created_by",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: Job) -> Progress:
        if job.state == JobState.QUEUED and not hasattr(self, "_positions"):
            # One query for all rows of a page.
            self._positions = selectors.queue_positions()
        position = self._positions.get(job.pk) if job.state == JobState.QUEUED else None
        return describe_progress(job, now=timezone.now(), queue_position=position)


class JobSerializer(JobRowSerializer):
    """A job with its recipe, its report and its last events."""

    class Meta(JobRowSerializer.Meta):
        fields = [*JobRowSerializer.Meta.fields, "is_cancel_requested", "recipe", "report", "log"]
        read_only_fields = fields


class SubmissionSerializer(JobSerializer):
    """The job of an order, and whether it was there already."""

    is_answered_from_cache = serializers.BooleanField(read_only=True)

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "is_answered_from_cache"]
        read_only_fields = fields


class JobOrderSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """What a job is started with: a preset, an own recipe, or a preset with changed sections."""

    version = serializers.PrimaryKeyRelatedField(queryset=Version.objects.select_related("model"))
    preset = serializers.ChoiceField(choices=list(PRESETS), required=False)
    recipe = CheckedJSONField(required=False)
    calibration_dataset = serializers.PrimaryKeyRelatedField(
        queryset=DataSet.objects.select_related("model"), required=False, allow_null=True
    )
    evaluation_dataset = serializers.PrimaryKeyRelatedField(
        queryset=DataSet.objects.select_related("model")
    )
    source_variant = serializers.PrimaryKeyRelatedField(
        queryset=Variant.objects.all(), required=False, allow_null=True
    )
    variant_name = serializers.RegexField(
        r"^[a-z0-9][a-z0-9.-]{0,55}$", required=False, allow_blank=True
    )

    def validate_recipe(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Expected a JSON object.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("preset") and not attrs.get("recipe"):
            raise serializers.ValidationError("Name a preset or give a recipe.")
        return attrs
