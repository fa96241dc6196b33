"""What the management API takes and shows of notifications; secrets are taken and never shown."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from rest_framework import serializers

from notifications.models import Channel, Delivery, OutboxEvent, Rule
from registry.api.fields import CheckedJSONField
from registry.api.strict import KnownFieldsOnly
from registry.models import Model


class ChannelSerializer(KnownFieldsOnly, serializers.ModelSerializer[Channel]):
    """A receiver. `url` and `key` are kept encrypted and never answered."""

    url = serializers.CharField(
        write_only=True,
        required=False,
        max_length=2000,
        help_text="Of a webhook, Slack or Teams; of PagerDuty for accounts in Europe.",
    )
    key = serializers.CharField(
        write_only=True, required=False, max_length=500, help_text="PagerDuty's routing key."
    )
    recipients = serializers.ListField(
        child=serializers.EmailField(), required=False, max_length=50
    )
    group = serializers.SlugRelatedField[Any](
        slug_field="name", queryset=Group.objects.all(), required=False, allow_null=True
    )

    class Meta:
        model = Channel
        fields = [
            "id", "name", "kind", "is_enabled", "url", "key", "hint", "recipients", "group",
            "failures", "problem", "retry_at", "delivered_at", "dropped", "created_at",
        ]  # fmt: skip
        read_only_fields = [
            "hint", "failures", "problem", "retry_at", "delivered_at", "dropped", "created_at",
        ]  # fmt: skip
        extra_kwargs: dict[str, Any] = {"name": {"validators": []}}


class ChannelMadeSerializer(ChannelSerializer):
    """A channel that was just made; the only answer that has a webhook's secret."""

    secret = serializers.CharField(
        read_only=True, help_text="What a webhook's messages are signed with; shown once."
    )

    class Meta(ChannelSerializer.Meta):
        fields = [*ChannelSerializer.Meta.fields, "secret"]


class RuleSerializer(KnownFieldsOnly, serializers.ModelSerializer[Rule]):
    """Which events go to a channel."""

    channel = serializers.SlugRelatedField[Any](slug_field="name", queryset=Channel.objects.all())
    models = serializers.SlugRelatedField[Any](
        slug_field="slug", queryset=Model.objects.all(), many=True, required=False
    )
    kinds = serializers.ListField(
        child=serializers.CharField(max_length=64), required=False, max_length=100
    )

    class Meta:
        model = Rule
        fields = [
            "id", "name", "channel", "is_enabled", "kinds", "models", "level", "quiet_from",
            "quiet_until", "time_zone", "is_critical_loud",
        ]  # fmt: skip
        extra_kwargs: dict[str, Any] = {"name": {"validators": []}}


class EventSerializer(serializers.ModelSerializer[OutboxEvent]):
    """One thing that happened."""

    model = serializers.CharField(source="model_slug", read_only=True)
    device = serializers.CharField(source="device_id", read_only=True)
    details = CheckedJSONField(read_only=True)

    class Meta:
        model = OutboxEvent
        fields = [
            "id", "kind", "level", "summary", "actor", "model", "device", "cause", "is_over",
            "path", "details", "at",
        ]  # fmt: skip


class AttemptSerializer(serializers.Serializer[None]):
    """One attempt: `status` is that of HTTP; null where there was no answer, or no HTTP."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    problem = serializers.CharField(allow_blank=True)


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """One event on its way to one channel."""

    message_id = serializers.SerializerMethodField(
        help_text="As the receiver sees it: the same at each attempt."
    )
    event = EventSerializer(read_only=True)
    channel = serializers.SlugRelatedField[Delivery](slug_field="name", read_only=True)
    history = AttemptSerializer(many=True, read_only=True)

    class Meta:
        model = Delivery
        fields = [
            "id", "message_id", "event", "channel", "state", "attempts", "next_attempt_at",
            "created_at", "finished_at", "problem", "history",
        ]  # fmt: skip

    def get_message_id(self, row: Delivery) -> str:
        return f"msg_{row.uid.hex}"


class KindSerializer(serializers.Serializer[None]):
    """A kind of event, and when it is published."""

    kind = serializers.CharField()
    when = serializers.CharField()
