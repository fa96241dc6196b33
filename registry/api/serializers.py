"""How rows of the registry look from outside."""

from typing import Any

from rest_framework import serializers

from registry.api.fields import CheckedJSONField
from registry.api.strict import KnownFieldsOnly
from registry.models import Alias, AuditEvent, Baseline, DataSet, Model, Variant, Version
from registry.models.artifacts import VariantFile
from registry.states import PERSON_TARGETS


class ModelSerializer(KnownFieldsOnly, serializers.ModelSerializer[Model]):
    """A model."""

    class Meta:
        model = Model
        fields = ["id", "slug", "title", "task", "labels", "tags", "created_at"]
        read_only_fields = ["id", "created_at"]
        # The service answers 409 for a slug that is taken; a validator would make it a 400.
        extra_kwargs: dict[str, dict[str, Any]] = {"slug": {"validators": []}}


class VariantFileSerializer(serializers.ModelSerializer[VariantFile]):
    """A file of a variant with its digest."""

    sha256 = serializers.CharField(source="blob_id")
    size_bytes = serializers.IntegerField(source="blob.size_bytes")

    class Meta:
        model = VariantFile
        fields = ["path", "role", "sha256", "size_bytes"]


class VariantDownloadSerializer(VariantFileSerializer):
    """A file of a variant and where its bytes are."""

    url = serializers.CharField(help_text="Gives the bytes to whoever has it, until it expires.")

    class Meta(VariantFileSerializer.Meta):
        fields = [*VariantFileSerializer.Meta.fields, "url"]


class VariantSerializer(serializers.ModelSerializer[Variant]):
    """A variant with its files, its identity and the signed manifest."""

    files = VariantFileSerializer(many=True, read_only=True)
    derived_from: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(
        slug_field="name", read_only=True
    )

    class Meta:
        model = Variant
        fields = [
            "id",
            "name",
            "manifest_sha256",
            "files",
            "requirements",
            "metrics",
            "is_promotable",
            "provenance",
            "derived_from",
            "envelope",
            "created_at",
        ]


class VersionSerializer(serializers.ModelSerializer[Version]):
    """A version with its variants."""

    model: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(
        slug_field="slug", read_only=True
    )
    parent: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(  # type: ignore[assignment]
        slug_field="version", read_only=True
    )
    dataset: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(
        slug_field="name", read_only=True
    )
    variants = VariantSerializer(many=True, read_only=True)

    class Meta:
        model = Version
        fields = [
            "id",
            "model",
            "version",
            "sequence",
            "state",
            "rejection_reason",
            "notes",
            "tags",
            "source",
            "metrics",
            "parent",
            "dataset",
            "signature",
            "preprocessing",
            "postprocessing",
            "contract",
            "question",
            "validation_notes",
            "variants",
            "created_by",
            "created_at",
        ]


class VersionUploadSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """A version to upload: `file` for a lone model, or several `files` named by their paths."""

    version = serializers.CharField(max_length=64)
    file = serializers.FileField(required=False, allow_empty_file=True)
    files = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True), required=False
    )
    metadata = CheckedJSONField(required=False)
    dataset = serializers.IntegerField(required=False, help_text="Id of an evaluation set.")
    sha256 = serializers.CharField(required=False, help_text="What `file` must hash to.")
    digests = CheckedJSONField(required=False, help_text="Path to SHA-256, for `files`.")
    blobs = CheckedJSONField(
        required=False,
        help_text="Path to SHA-256 of bytes that `uploads/` has taken, in place of `files`.",
    )

    def validate_metadata(self, value: Any) -> dict[str, Any]:
        return _object(value, "metadata")

    def validate_digests(self, value: Any) -> dict[str, Any]:
        return _object(value, "digests")

    def validate_blobs(self, value: Any) -> dict[str, str]:
        found = _object(value, "blobs")
        if not all(isinstance(digest, str) for digest in found.values()):
            raise serializers.ValidationError("Expected an object of path to SHA-256.")
        return found

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if sum(bool(attrs.get(name)) for name in ("file", "files", "blobs")) != 1:
            raise serializers.ValidationError("Send one of `file`, `files` and `blobs`.")
        return attrs


class VersionEditSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """What may change once a version is ready."""

    notes = serializers.CharField(required=False, allow_blank=True)
    tags = serializers.ListField(child=serializers.CharField(), required=False)


class TransitionSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Where a version shall go, and why."""

    to = serializers.ChoiceField(choices=sorted(PERSON_TARGETS))
    reason = serializers.CharField(required=False, allow_blank=True, default="")


class ContractSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """What a version's outputs mean: fields of the output contract, the rest is inferred."""

    contract = CheckedJSONField()
    reason = serializers.CharField(required=False, allow_blank=True, default="")

    def validate_contract(self, value: Any) -> dict[str, Any]:
        return _object(value, "contract")


class DataSetSerializer(serializers.ModelSerializer[DataSet]):
    """A data set."""

    model: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(
        slug_field="slug", read_only=True
    )
    sha256 = serializers.CharField(source="blob_id", read_only=True)

    class Meta:
        model = DataSet
        fields = [
            "id", "model", "name", "kind", "sha256", "rows", "arrays", "provenance", "created_at",
        ]  # fmt: skip


class DataSetUploadSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """A data set to register."""

    name = serializers.CharField(max_length=100)
    kind = serializers.CharField(default="evaluation")
    file = serializers.FileField(allow_empty_file=True)
    sha256 = serializers.CharField(required=False)


class DataSetSplitSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """How to split a data set in two that share no row."""

    share = serializers.FloatField(
        min_value=0.001, max_value=0.999, help_text="Of the rows that go to the first part."
    )
    first = serializers.CharField(max_length=100, help_text="Name of the calibration part.")
    second = serializers.CharField(max_length=100, help_text="Name of the evaluation part.")
    seed = serializers.IntegerField(default=0, min_value=0, max_value=2**31 - 1)


class AliasSerializer(serializers.ModelSerializer[Alias]):
    """An alias and where it stands."""

    version: "serializers.SlugRelatedField[Any]" = serializers.SlugRelatedField(
        slug_field="version", read_only=True
    )

    class Meta:
        model = Alias
        fields = ["name", "version", "is_protected"]


class AliasMoveSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Where an alias shall go."""

    version = serializers.CharField()
    reason = serializers.CharField(required=False, allow_blank=True, default="")


class AliasProtectionSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Whether an alias shall be protected, and why that changes."""

    is_protected = serializers.BooleanField()
    reason = serializers.CharField(max_length=2000)


class DeviceResultSerializer(serializers.Serializer[Any]):
    """What devices of one class measured of a variant; `docs/protocol.md` says how."""

    variant = serializers.CharField()
    hardware = serializers.CharField(help_text="The class, else the processor.")
    isa = serializers.ListField(child=serializers.CharField())
    devices = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Of them, by the self-test.")
    rows = serializers.IntegerField(help_text="That each device was asked.")
    agreement = serializers.FloatField(help_text="Share answered as where it was made.")
    agreement_low = serializers.FloatField(help_text="95 % interval (Wilson) over rows.")
    agreement_high = serializers.FloatField()
    lowest_agreement = serializers.FloatField(help_text="Of one device.")
    labelled = serializers.IntegerField(help_text="Rows whose right answer is known.")
    accuracy = serializers.FloatField(allow_null=True)
    accuracy_low = serializers.FloatField(allow_null=True)
    accuracy_high = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField(
        allow_null=True, help_text="Mean over devices of their median of one row."
    )
    verdict = serializers.CharField(help_text="Why it contradicts the measurement; else empty.")
    words = serializers.CharField()


class BaselineSerializer(serializers.ModelSerializer[Baseline]):
    """A reference profile."""

    class Meta:
        model = Baseline
        fields = ["id", "sha256", "profile", "source", "reason", "is_active", "created_at"]


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    """An audit event."""

    class Meta:
        model = AuditEvent
        fields = [
            "id",
            "at",
            "actor",
            "action",
            "object_type",
            "object_id",
            "summary",
            "details",
            "previous_digest",
            "digest",
        ]


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise serializers.ValidationError(f"{name} is a JSON object.")
    return value
