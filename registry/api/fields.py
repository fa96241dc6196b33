"""Fields of serializers that are shared."""

from typing import Any

from rest_framework import serializers

from registry.decoded import UnstorableValueError, check_decoded


class CheckedJSONField(serializers.JSONField):
    """JSON, in a form also as text, that can be stored."""

    def to_internal_value(self, data: Any) -> Any:
        try:
            value = super().to_internal_value(data)
            check_decoded(value)
        except UnstorableValueError as error:
            raise serializers.ValidationError(str(error), code="unstorable") from error
        except (RecursionError, ValueError):
            self.fail("invalid")
        return value
