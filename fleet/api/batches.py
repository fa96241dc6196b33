"""Bodies of calls for many devices, and saved groups, in the management API."""

from __future__ import annotations

import csv
import io
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.models import DeviceGroup
from fleet.services import groups
from fleet.services.device_batches import MOST_REGISTERED
from registry.api.permissions import ModelPermissions
from registry.api.strict import KnownFieldsOnly
from registry.plain_text import is_storable


class CsvParser(BaseParser):
    """`text/csv` with a column `device_id`; every other column is a label, where it has a text."""

    media_type = "text/csv"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            text = stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ParseError(f"CSV: expected UTF-8; {error}") from error
        if not is_storable(text):
            raise ParseError("CSV: a text with U+0000.")
        reader = csv.DictReader(io.StringIO(text), strict=True)
        try:
            names = reader.fieldnames or []
            if "device_id" not in names or len(set(names)) != len(names):
                raise ParseError(
                    "CSV: expected a first line of different names, one of them device_id; got "
                    f"{', '.join(names)[:200]!r}"
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise ParseError(f"CSV: line {reader.line_num} has not {len(names)} cells")
                device_id = row.pop("device_id").strip()
                labels = {name: value for name, value in row.items() if value}
                rows.append({"device_id": device_id, "labels": labels})
                if len(rows) > MOST_REGISTERED:
                    raise ParseError(f"CSV: at most {MOST_REGISTERED:,} devices are taken at once")
        except csv.Error as error:
            raise ParseError(f"CSV: line {reader.line_num}: {error}") from error
        return {"devices": rows}


class RegisterManySerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Devices that are to be known before they call."""

    devices = serializers.ListField(
        child=serializers.JSONField(),
        help_text="Each with device_id and perhaps labels; or the body is CSV with these columns.",
    )
    is_dry_run = serializers.BooleanField(required=False, default=False)


class RegisteredSerializer(serializers.Serializer[Any]):
    """What became of each row."""

    registered = serializers.ListField(child=serializers.CharField())
    known = serializers.ListField(child=serializers.CharField())
    refused = serializers.ListField(child=serializers.DictField())
    is_dry_run = serializers.BooleanField()


class LabelManySerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Labels for every device that a selector or a saved group takes."""

    selector = serializers.JSONField(required=False)
    group = serializers.SlugRelatedField(
        slug_field="name", queryset=DeviceGroup.objects.all(), required=False
    )
    set = serializers.DictField(
        child=serializers.CharField(max_length=256, allow_null=True, allow_blank=True),
        help_text="Label to its value, or null to take it away.",
    )
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)
    confirmed_devices = serializers.IntegerField(min_value=0, required=False, default=None)
    is_dry_run = serializers.BooleanField(required=False, default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("selector" in attrs) == ("group" in attrs):
            raise serializers.ValidationError("Name the devices by a selector or by a group")
        return attrs


class LabelledSerializer(serializers.Serializer[Any]):
    """How many devices matched, got other labels, and moved between releases."""

    devices = serializers.IntegerField()
    changed = serializers.IntegerField()
    moved = serializers.IntegerField()
    moves = serializers.ListField(child=serializers.DictField())
    is_dry_run = serializers.BooleanField()


class DeviceGroupSerializer(KnownFieldsOnly, serializers.ModelSerializer[DeviceGroup]):
    class Meta:
        model = DeviceGroup
        fields = [
            "id", "name", "selector", "description", "created_by", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["created_by", "created_at", "updated_at"]
        # The service says which names are taken, in words.
        extra_kwargs = {"name": {"validators": []}, "selector": {"required": True}}


class DeviceGroupViewSet(
    mixins.CreateModelMixin, mixins.DestroyModelMixin, viewsets.ReadOnlyModelViewSet[DeviceGroup]
):
    """Selectors that people keep under a name."""

    queryset = DeviceGroup.objects.all()
    serializer_class = DeviceGroupSerializer
    permission_classes = [ModelPermissions]
    filterset_fields = ["name"]

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        group = groups.save_group(actor=request.user.get_username(), **body.validated_data)
        return Response(self.get_serializer(group).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=DeviceGroupSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        group = self.get_object()
        body = self.get_serializer(group, data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        known = {name: getattr(group, name) for name in ("name", "selector", "description")}
        changed = groups.save_group(
            group_id=group.pk,
            actor=request.user.get_username(),
            **{**known, **body.validated_data},
        )
        return Response(self.get_serializer(changed).data)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        groups.remove_group(group_id=self.get_object().pk, actor=request.user.get_username())
        return Response(status=status.HTTP_204_NO_CONTENT)
