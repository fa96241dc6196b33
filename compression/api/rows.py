"""What the rows of compression's tables look like in the API."""

from typing import Any

from rest_framework import serializers


class PassSecondsSerializer(serializers.Serializer[Any]):
    """One pass of a recipe, as it ran."""

    name = serializers.CharField()
    seconds = serializers.FloatField(help_text="When it was computed, were it from the cache.")
    bytes = serializers.IntegerField(help_text="Of the model file after it.")


class MeasuredVariantSerializer(serializers.Serializer[Any]):
    """FP32 or a measured variant in the comparison of a version."""

    name = serializers.CharField()
    source_name = serializers.CharField(help_text="The variant that it was made of.")
    job = serializers.UUIDField(help_text="The job that measured it.")
    state = serializers.CharField(help_text="`source` for FP32, else the state of the job.")
    is_source = serializers.BooleanField()
    is_on_front = serializers.BooleanField(
        help_text="None is at least as good in size, quality and relative latency, better in one."
    )
    is_promotable = serializers.BooleanField()
    why_not = serializers.CharField(help_text="Why it can never be promoted; empty when it can.")
    bytes = serializers.IntegerField()
    compressed_bytes = serializers.IntegerField(help_text="After zlib, level 6.")
    ratio = serializers.FloatField(help_text="Bytes of FP32 ÷ bytes.")
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_low = serializers.FloatField(allow_null=True, help_text="95 % interval (Wilson).")
    accuracy_high = serializers.FloatField(allow_null=True)
    samples = serializers.IntegerField()
    accuracy_drop_points = serializers.FloatField(allow_null=True)
    accuracy_by_isa = serializers.DictField(
        child=serializers.FloatField(allow_null=True),
        help_text="By instruction set; `avx2` and `avx512` are processors without VNNI.",
    )
    agreement_by_isa = serializers.DictField(child=serializers.FloatField(allow_null=True))
    saturates_on = serializers.ListField(
        child=serializers.CharField(), help_text="Where sums of 16 bits are cut."
    )
    requires_isa = serializers.ListField(
        child=serializers.CharField(),
        help_text="A device needs one of these; none: any will do.",
    )
    on_devices = serializers.ListField(
        child=serializers.CharField(), help_text="What self-tests on devices came to, by class."
    )
    agreement = serializers.FloatField(allow_null=True, help_text="With the source.")
    agreement_low = serializers.FloatField(allow_null=True, help_text="95 % interval (Wilson).")
    agreement_high = serializers.FloatField(allow_null=True)
    divergence_nats = serializers.FloatField(allow_null=True, help_text="KL from the source.")
    p50_ms = serializers.FloatField()
    p95_ms = serializers.FloatField()
    p99_ms = serializers.FloatField()
    control_p50_ms = serializers.FloatField(help_text="Of the source, run in turns with it.")
    control_p95_ms = serializers.FloatField()
    control_p99_ms = serializers.FloatField()
    latency_runs = serializers.IntegerField(allow_null=True)
    relative_p50 = serializers.FloatField(
        allow_null=True, help_text="p50 ÷ p50 of FP32 in the same run."
    )
    parameters = serializers.IntegerField(allow_null=True)
    macs = serializers.IntegerField(allow_null=True)
    zero_share = serializers.FloatField(
        allow_null=True, help_text="Mean over layers; `jobs/<id>/layers/` has each."
    )
    excluded = serializers.DictField(
        child=serializers.CharField(), help_text="Why a node was left as it was, by its name."
    )
    collapse_flags = serializers.ListField(child=serializers.CharField())
    measured_on = serializers.CharField()
    cpu_flags = serializers.ListField(child=serializers.CharField())
    threads = serializers.IntegerField()
    batch = serializers.IntegerField()
    seed = serializers.IntegerField(allow_null=True)
    libraries = serializers.DictField(child=serializers.CharField())
    passes_sha256 = serializers.CharField(
        allow_null=True, help_text="Of the passes' code; null before it was kept."
    )
    passes = PassSecondsSerializer(many=True)
    evaluation_seconds = serializers.FloatField(allow_null=True)
    sha256 = serializers.CharField(help_text="Of the model file, as the other digests.")
    source_sha256 = serializers.CharField()
    recipe_sha256 = serializers.CharField(help_text="Of the canonical JSON.")
    calibration_sha256 = serializers.CharField(allow_null=True)
    evaluation_sha256 = serializers.CharField()
    identity = serializers.CharField(help_text="Jobs of equal identity give equal bytes.")
    measured_at = serializers.DateTimeField(allow_null=True)


class CandidateSerializer(serializers.Serializer[Any]):
    """A variant that a search built."""

    name = serializers.CharField()
    passes = serializers.ListField(child=serializers.JSONField())
    bytes = serializers.IntegerField()
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_drop_points = serializers.FloatField(allow_null=True)
    agreement = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    held_out_accuracy = serializers.FloatField(allow_null=True)
    held_out_drop_points = serializers.FloatField(allow_null=True)
    held_out_agreement = serializers.FloatField(allow_null=True)
    judged_on = serializers.ChoiceField(choices=["subset", "full"])
    is_feasible = serializers.BooleanField()
    is_on_front = serializers.BooleanField()
    reason = serializers.CharField()


class LayerSerializer(serializers.Serializer[Any]):
    """How sparse a layer is, beside the same layer of the source."""

    layer = serializers.CharField()
    zero_share = serializers.FloatField(
        allow_null=True, help_text="Share of weights that are zero, 0 to 1; null: it is gone."
    )
    source_zero_share = serializers.FloatField(
        allow_null=True, help_text="null: the source has no layer of this name."
    )
