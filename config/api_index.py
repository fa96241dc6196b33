"""The front door of the management API: who calls, what answers, and where all is."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

#: The lists that everything else hangs from.
LISTS = (
    "models", "uploads", "compression/jobs", "deployments", "rollouts", "devices", "join-tokens",
    "installations", "drift", "incidents", "device-incidents", "channels", "notification-rules",
    "deliveries", "events", "audit",
)  # fmt: skip


class IndexSerializer(serializers.Serializer[Any]):
    """Who calls, which server answers, and the addresses of its lists."""

    user = serializers.CharField(help_text="Whom the token belongs to.")
    version = serializers.CharField(help_text="Of the server.")
    schema = serializers.CharField(help_text="Address of the OpenAPI document.")
    lists = serializers.DictField(child=serializers.CharField())


class Index(APIView):
    """Who calls, which server answers, and the addresses of its lists."""

    @extend_schema(responses=IndexSerializer, operation_id="index")
    def get(self, request: Request) -> Response:
        """Tells who calls and where everything is; a cheap way to try a token."""
        base = request.build_absolute_uri("/").rstrip("/")
        return Response(
            {
                "user": request.user.get_username(),
                "version": settings.AVIARY_VERSION,
                "schema": base + reverse("schema"),
                "lists": {name: f"{base}/api/v1/{name}/" for name in LISTS},
            }
        )
