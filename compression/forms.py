"""The form that starts a job from the admin."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from compression.presets import PRESETS
from registry.models import DataSet, DataSetKind, Version, VersionState

_OPEN_STATES = (VersionState.READY, VersionState.APPROVED, VersionState.DEPRECATED)


class JobForm(forms.Form):
    """A version, a preset and the data to calibrate and judge with."""

    version = forms.ModelChoiceField(Version.objects.none(), widget=UnfoldAdminSelectWidget)
    preset = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    calibration_dataset = forms.ModelChoiceField(
        DataSet.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="Presets with static quantization or pruning need one.",
    )
    evaluation_dataset = forms.ModelChoiceField(
        DataSet.objects.none(), widget=UnfoldAdminSelectWidget
    )
    max_accuracy_drop_points = forms.FloatField(
        initial=1.0,
        min_value=0.0,
        max_value=100.0,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"step": "any"}),
        help_text="The variant fails when it loses more points of accuracy than this.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        versions = Version.objects.filter(state__in=_OPEN_STATES).select_related("model")
        self.fields["version"].queryset = versions  # type: ignore[attr-defined]
        self.fields["preset"].choices = [  # type: ignore[attr-defined]
            (preset.slug, f"{preset.title}: {preset.summary}") for preset in PRESETS.values()
        ]
        sets = DataSet.objects.select_related("model")
        self.fields["calibration_dataset"].queryset = sets.exclude(  # type: ignore[attr-defined]
            kind=DataSetKind.EVALUATION
        )
        self.fields["evaluation_dataset"].queryset = sets.filter(  # type: ignore[attr-defined]
            kind=DataSetKind.EVALUATION
        )
