"""Forms of the registry's own pages."""

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from registry.models import DataSet, Model


class UploadForm(forms.Form):
    """A new version of a model."""

    model = forms.ModelChoiceField(Model.objects.all(), widget=UnfoldAdminSelectWidget)
    version = forms.CharField(max_length=64, widget=UnfoldAdminTextInputWidget)
    file = forms.FileField(
        allow_empty_file=True,
        label="ONNX file",
        widget=UnfoldAdminFileFieldWidget,
        help_text="One file; models with external data go through the API.",
    )
    dataset = forms.ModelChoiceField(
        DataSet.objects.filter(kind="evaluation").select_related("model"),
        required=False,
        label="Evaluation set",
        widget=UnfoldAdminSelectWidget,
        help_text="Gives the baseline for drift and the golden vectors.",
    )
    notes = forms.CharField(required=False, widget=UnfoldAdminTextareaWidget)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        dataset, model = given.get("dataset"), given.get("model")
        if dataset and model and dataset.model_id != model.pk:
            self.add_error("dataset", "This data set belongs to another model.")
        return given


class TransitionForm(forms.Form):
    """Why a version moves."""

    reason = forms.CharField(widget=UnfoldAdminTextareaWidget, required=False)

    def __init__(self, *args: Any, needs_reason: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = needs_reason
