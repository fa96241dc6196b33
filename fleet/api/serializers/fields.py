"""Fields of the fleet that more than one answer has."""

from __future__ import annotations

import math
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from registry.models import Alias, Version


class FiniteField(serializers.FloatField):
    """A number that is one: neither infinite nor NaN, which JSON readers take in."""

    def to_internal_value(self, data: Any) -> float:
        value = float(super().to_internal_value(data))
        if not math.isfinite(value):
            raise serializers.ValidationError(f"expected a finite number, got {value}")
        return value


@extend_schema_field(serializers.CharField())
class VersionField(serializers.RelatedField[Any, Any, Any]):
    """A version as `{"model", "version"}` out, and as its version string or primary key in."""

    def to_representation(self, value: Any) -> Any:
        return value.version

    def to_internal_value(self, data: Any) -> Any:
        text = str(data)
        found = Version.objects.filter(version=text)
        model = self.context.get("model")
        if model is not None:
            found = found.filter(model=model)
        match = list(found[:2])
        if len(match) == 1:
            return match[0]
        if text.isdigit():
            by_key = Version.objects.filter(pk=int(text)).first()
            if by_key is not None:
                return by_key
        raise serializers.ValidationError(
            f"{len(match)} versions are called {text!r}" if match else f"No version {text!r}"
        )


class VariantNames(serializers.ListField):
    """The chosen variants of a version, by name; left out in a request, all it can offer now."""

    child = serializers.CharField(max_length=64)

    def to_representation(self, data: Any) -> list[str]:
        return [variant.name for variant in data.all()]


class AliasField(serializers.RelatedField[Any, Any, Any]):
    """An alias of the model by its name."""

    def to_representation(self, value: Any) -> Any:
        return value.name

    def to_internal_value(self, data: Any) -> Any:
        model = self.context.get("model")
        alias = Alias.objects.filter(model=model, name=str(data)).first()
        if alias is None:
            raise serializers.ValidationError(f"{model or 'The model'} has no alias {data!r}")
        return alias
