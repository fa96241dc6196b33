"""Bodies that say what they mean."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.settings import api_settings

_SHOWN_NAMES = 5


class KnownFieldsOnly(serializers.BaseSerializer[Any]):
    """Refuses a body with a field that the serializer has not.

    A misspelt name would leave its default in force without a word. What devices send is not held
    to this: an older server has to understand a newer agent.
    """

    def to_internal_value(self, data: Any) -> Any:
        known: Mapping[str, Any] = getattr(self, "fields", {})
        given = data if isinstance(data, Mapping) else ()
        unknown = [str(name) for name in given if name not in known]
        if unknown:
            # Written in ASCII: a name may hold what cannot be encoded in the answer.
            names = ", ".join(f"{name[:64]!a}" for name in sorted(unknown)[:_SHOWN_NAMES])
            expected = ", ".join(name for name, field in known.items() if not field.read_only)
            message = f"Unknown field {names}; expected some of: {expected}."
            raise serializers.ValidationError(
                {api_settings.NON_FIELD_ERRORS_KEY: [message]}, code="unknown_field"
            )
        return super().to_internal_value(data)
