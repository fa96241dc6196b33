"""How deployments look in the management API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from fleet.api.serializers.fields import AliasField, VariantNames, VersionField
from fleet.models import Deployment
from fleet.notices import deployment_notices
from registry.api.strict import KnownFieldsOnly
from registry.models import Alias, Model, Version


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
