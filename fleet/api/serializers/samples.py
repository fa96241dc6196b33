"""How calibration builds look in the management API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from fleet.models import CalibrationBuild
from registry.api.strict import KnownFieldsOnly
from registry.models import DataSet, Model


class CalibrationBuildSerializer(KnownFieldsOnly, serializers.ModelSerializer[CalibrationBuild]):
    """An order for a calibration set made of fleet samples."""

    model: serializers.SlugRelatedField[Any] = serializers.SlugRelatedField(
        slug_field="slug", queryset=Model.objects.all()
    )
    keep_out: serializers.PrimaryKeyRelatedField[Any] = serializers.PrimaryKeyRelatedField(
        queryset=DataSet.objects.all(), required=False, allow_null=True
    )

    class Meta:
        model = CalibrationBuild
        fields = [
            "id", "model", "name", "rows", "selector", "since", "until", "keep_out", "seed",
            "state", "error", "dataset", "created_by", "created_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = [
            "state", "error", "dataset", "created_by", "created_at", "finished_at",
        ]  # fmt: skip
        # The service says which names are taken, in words.
        validators: list[Any] = []
