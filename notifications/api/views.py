"""Channels, rules, deliveries and events for people and their tools."""

from __future__ import annotations

from typing import Any

import django_filters
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import tasks
from notifications.api import serializers as shapes
from notifications.models import Channel, Delivery, OutboxEvent, Rule
from notifications.services import channels
from registry.api.filters import TimeFilter
from registry.api.permissions import ModelPermissions
from registry.enqueue import enqueue_after_commit
from registry.events import known_kinds


class ChannelViewSet(
    mixins.CreateModelMixin, mixins.DestroyModelMixin, viewsets.ReadOnlyModelViewSet[Channel]
):
    """Receivers of notifications."""

    queryset = Channel.objects.select_related("group")
    serializer_class = shapes.ChannelSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["kind", "is_enabled"]

    @extend_schema(responses={201: shapes.ChannelMadeSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Makes a channel; the answer holds a webhook's secret, this once."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        channel, secret = channels.save_channel(
            actor=request.user.get_username(), **body.validated_data
        )
        answer = {**self.get_serializer(channel).data, "secret": secret}
        return Response(answer, status=status.HTTP_201_CREATED)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Changes what is named; `url` and `key` replace those that are kept."""
        found = self.get_object()
        body = self.get_serializer(found, data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        channel, _ = channels.save_channel(
            actor=request.user.get_username(), channel_id=found.pk, **body.validated_data
        )
        return Response(self.get_serializer(channel).data)

    def perform_destroy(self, instance: Channel) -> None:
        channels.delete_channel(channel_id=instance.pk, actor=self.request.user.get_username())

    @extend_schema(request=None, responses={202: shapes.DeliverySerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Sends a test; the delivery tells how it went."""
        channel = self.get_object()
        delivery = channels.send_test(
            channel_id=channel.pk, actor=request.user.get_username(), now=timezone.now()
        )
        enqueue_after_commit(tasks.deliver.delay, channel.pk)
        return Response(shapes.DeliverySerializer(delivery).data, status=202)

    @extend_schema(request=None, responses=shapes.ChannelMadeSerializer)
    @action(detail=True, methods=["post"], url_path="replace-secret")
    def replace_secret(self, request: Request, pk: str) -> Response:
        """A webhook's new secret, shown this once; the old one signs too for 24 hours."""
        channel, secret = channels.rotate_secret(
            channel_id=self.get_object().pk,
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        return Response({**self.get_serializer(channel).data, "secret": secret})


class RuleViewSet(
    mixins.CreateModelMixin, mixins.DestroyModelMixin, viewsets.ReadOnlyModelViewSet[Rule]
):
    """Which events go to which channel."""

    queryset = Rule.objects.select_related("channel").prefetch_related("models")
    serializer_class = shapes.RuleSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["is_enabled", "level", "channel__name"]

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Makes a rule."""
        return self._save(request, None, status.HTTP_201_CREATED)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Changes what is named."""
        return self._save(request, self.get_object(), status.HTTP_200_OK)

    def perform_destroy(self, instance: Rule) -> None:
        channels.delete_rule(rule_id=instance.pk, actor=self.request.user.get_username())

    def _save(self, request: Request, found: Rule | None, code: int) -> Response:
        body = self.get_serializer(found, data=request.data, partial=found is not None)
        body.is_valid(raise_exception=True)
        rule = channels.save_rule(
            actor=request.user.get_username(),
            rule_id=found.pk if found else None,
            **body.validated_data,
        )
        return Response(self.get_serializer(self.get_queryset().get(pk=rule.pk)).data, status=code)


class DeliveryFilter(django_filters.FilterSet):
    """Deliveries by channel, state and kind of event."""

    channel = django_filters.CharFilter(field_name="channel__name")
    kind = django_filters.CharFilter(field_name="event__kind")

    class Meta:
        model = Delivery
        fields = ["state"]


class DeliveryViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Delivery]
):
    """What was sent where, newest first."""

    queryset = Delivery.objects.select_related("event", "channel")
    serializer_class = shapes.DeliverySerializer
    permission_classes = [ModelPermissions]
    filterset_class = DeliveryFilter

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, pk: str) -> Response:
        """Sends the message again with the same id."""
        found = self.get_object()
        channels.redeliver(
            delivery_id=found.pk, actor=request.user.get_username(), now=timezone.now()
        )
        enqueue_after_commit(tasks.deliver.delay, found.channel_id)
        return Response(self.get_serializer(self.get_object()).data)


class EventFilter(django_filters.FilterSet):
    """Events by kind, level, model, device and time."""

    model = django_filters.CharFilter(field_name="model_slug")
    device = django_filters.CharFilter(field_name="device_id")
    since = TimeFilter(field_name="at", lookup_expr="gte")
    until = TimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = OutboxEvent
        fields = ["kind", "level"]


class EventViewSet(viewsets.ReadOnlyModelViewSet[OutboxEvent]):
    """What happened, newest first, whether or not anybody was told."""

    queryset = OutboxEvent.objects.all()
    serializer_class = shapes.EventSerializer
    permission_classes = [ModelPermissions]
    filterset_class = EventFilter

    @extend_schema(responses=shapes.KindSerializer(many=True))
    @action(detail=False, methods=["get"], pagination_class=None, filterset_class=None)
    def kinds(self, request: Request) -> Response:
        """Every kind of event, and when it is published."""
        rows = [{"kind": kind, "when": when} for kind, when in known_kinds().items()]
        return Response(rows)
