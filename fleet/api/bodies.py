"""What calls of the management API bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from registry.api.strict import KnownFieldsOnly


def body_fields(request: Request) -> Mapping[str, Any]:
    """The body's fields; a body that is not an object is refused."""
    if not hasattr(request.data, "get"):
        raise serializers.ValidationError(
            f"expected a JSON object, got a {type(request.data).__name__}"
        )
    fields: Any = request.data
    return fields


class ReasonSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Why a person does something, and the revision they saw."""

    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    revision = serializers.IntegerField(required=False, default=None, allow_null=True)
