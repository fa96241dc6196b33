"""What a recipe may be made of: the presets, and every pass with its parameters."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from compression.recipe.passes import PASSES
from compression.recipe.presets import PRESETS


class ParameterSerializer(serializers.Serializer[Any]):
    """One value of a pass: what it may be."""

    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=["int", "float", "str", "bool", "names"])
    default = serializers.JSONField(allow_null=True)
    minimum = serializers.FloatField(allow_null=True)
    maximum = serializers.FloatField(allow_null=True)
    choices = serializers.ListField(child=serializers.JSONField())
    is_nullable = serializers.BooleanField(help_text="Whether null lets the pass decide.")


class PassSerializer(serializers.Serializer[Any]):
    """A pass that a recipe may name."""

    name = serializers.CharField()
    title = serializers.CharField()
    needs_calibration = serializers.BooleanField()
    trains = serializers.BooleanField()
    is_last = serializers.BooleanField(help_text="Whether no pass may follow it.")
    targets = serializers.ListField(
        child=serializers.CharField(),
        help_text="Operators of which a graph must have one with FP32 weights; none: any graph.",
    )
    parameters = ParameterSerializer(many=True)


class PresetSerializer(serializers.Serializer[Any]):
    """A recipe offered by name."""

    slug = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField()
    variant_name = serializers.CharField()
    recipe = serializers.JSONField()


class PassList(APIView):
    """Passes that a recipe may name."""

    @extend_schema(responses={200: PassSerializer(many=True)})
    def get(self, request: Request) -> Response:
        """Each pass with its parameters, their ranges and defaults."""
        return Response([PASSES[name].describe() for name in sorted(PASSES)])


class PresetList(APIView):
    """Recipes offered by name."""

    @extend_schema(responses={200: PresetSerializer(many=True)})
    def get(self, request: Request) -> Response:
        """Slug, title, summary and recipe of each preset."""
        rows = [
            {
                "slug": preset.slug,
                "title": preset.title,
                "summary": preset.summary,
                "variant_name": preset.variant,
                "recipe": preset.recipe,
            }
            for preset in PRESETS.values()
        ]
        return Response(rows)
