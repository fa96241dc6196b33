"""The forms that start a job from the admin."""

import json
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from compression.exceptions import RecipeInvalidError
from compression.recipe.passes import PASSES
from compression.recipe.presets import PRESETS
from compression.recipe.recipe import SCHEMA, Search, merge_recipe, parse_recipe
from compression.services.orders import OPEN_STATES
from registry.models import DataSet, DataSetKind, Version

OWN = "own"
_GATES = ("max_accuracy_drop_points", "max_bytes", "max_p95_ms", "min_agreement")
_OBJECTIVES = {
    "size": "the smallest",
    "latency": "the fastest",
    "accuracy": "the most accurate",
}


def _name_presets_without_rows() -> str:
    titles = [
        f"“{preset.title}”"
        for preset in PRESETS.values()
        if not parse_recipe(preset.recipe).needs_calibration
    ]
    return " and ".join(titles)


def _number(label: str, help_text: str, *, is_whole: bool = False, **limits: Any) -> forms.Field:
    kind = forms.IntegerField if is_whole else forms.FloatField
    step = "1" if is_whole else "any"
    widget = UnfoldAdminIntegerFieldWidget(attrs={"step": step})
    return kind(label=label, help_text=help_text, required=False, widget=widget, **limits)


class VersionForm(forms.Form):
    """Which version is to be compressed; the data sets that may be used follow from it."""

    version = forms.ModelChoiceField(  # type: ignore[var-annotated]
        Version.objects.none(),
        widget=UnfoldAdminSelectWidget(attrs={"data-submits": ""}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        versions = Version.objects.filter(state__in=OPEN_STATES).select_related("model")
        self.fields["version"].queryset = versions.order_by("-pk")  # type: ignore[attr-defined]


class JobForm(forms.Form):
    """A preset or an own recipe for one version, the data, the gates and the search."""

    preset = forms.ChoiceField(widget=forms.RadioSelect, initial="static-int8")
    calibration_dataset = forms.ModelChoiceField(
        DataSet.objects.none(),
        required=False,
        label="Calibration set",
        widget=UnfoldAdminSelectWidget,
        help_text=f"Every preset but {_name_presets_without_rows()} needs one.",
    )
    evaluation_dataset = forms.ModelChoiceField(
        DataSet.objects.none(), label="Evaluation set", widget=UnfoldAdminSelectWidget
    )
    variant_name = forms.RegexField(
        r"^[a-z0-9][a-z0-9.-]{0,55}$",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="What the variant is called; empty takes the preset's name.",
    )
    max_accuracy_drop_points = _number(
        "Most points of accuracy lost", "In percentage points.", initial=1.0, min_value=0.0,
        max_value=100.0,
    )  # fmt: skip
    max_bytes = _number("Most bytes", "Of the model file.", is_whole=True, min_value=1)
    max_p95_ms = _number("Slowest p95", "In milliseconds, on the worker.", min_value=0.0)
    min_agreement = _number(
        "Least agreement with FP32", "Share of equal answers, 0 to 1.", min_value=0.0, max_value=1.0
    )
    objective = forms.ChoiceField(
        choices=list(_OBJECTIVES.items()),
        initial=Search().objective,
        required=False,
        widget=UnfoldAdminSelectWidget,
        label="Look for",
    )
    seconds = _number(
        "Time budget", "In seconds.", is_whole=True, min_value=1, max_value=86_400,
        initial=Search().seconds,
    )  # fmt: skip
    recipe = forms.CharField(
        required=False,
        label="Sections to change (JSON)",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 12, "spellcheck": "false"}),
        help_text=f"Laid over the preset and the fields above, for example "
        f'{{"data": {{"seed": 7}}, "limits": {{"threads": 1}}}}. With “Own recipe” it holds all '
        f"passes: {{“schema”: “{SCHEMA}”, “passes”: […]}}.",
    )

    def __init__(self, *args: Any, version: Version, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(slug, f"{each.title}: {each.summary}") for slug, each in PRESETS.items()]
        choices.append((OWN, "Own recipe: the passes are written below as JSON."))
        self.fields["preset"].choices = choices  # type: ignore[attr-defined]
        sets = DataSet.objects.filter(model_id=version.model_id).select_related("model")
        evaluation = sets.filter(kind=DataSetKind.EVALUATION)
        self.fields["calibration_dataset"].queryset = sets.exclude(  # type: ignore[attr-defined]
            kind=DataSetKind.EVALUATION
        )
        self.fields["evaluation_dataset"].queryset = evaluation  # type: ignore[attr-defined]
        for name in ("calibration_dataset", "evaluation_dataset"):
            self.fields[name].label_from_instance = _label_dataset  # type: ignore[attr-defined]
        self.has_evaluation = evaluation.exists()
        # What the version was registered with; its FP32 accuracy is then checked first.
        if version.dataset is not None and version.dataset.kind == DataSetKind.EVALUATION:
            self.initial["evaluation_dataset"] = version.dataset_id

    @property
    def data_fields(self) -> list[forms.BoundField]:
        return [self[n] for n in ("calibration_dataset", "evaluation_dataset", "variant_name")]

    @property
    def gate_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in _GATES]

    @property
    def search_fields(self) -> list[forms.BoundField]:
        return [self["objective"], self["seconds"]]

    @property
    def passes(self) -> list[dict[str, Any]]:
        """What a recipe may be made of, with the values that each parameter takes."""
        rows = [PASSES[name].describe() for name in sorted(PASSES)]
        for row in rows:
            row["words"] = [_describe_parameter(item) for item in row["parameters"]]
        return rows

    def clean_recipe(self) -> dict[str, Any]:
        text = self.cleaned_data["recipe"].strip()
        if not text:
            return {}
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                f"Not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
            ) from error
        if not isinstance(document, dict):
            raise forms.ValidationError("Expected a JSON object.")
        return document

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        sections: dict[str, Any] = {
            "gates": {name: cleaned[name] for name in _GATES},
            "search": {"objective": cleaned["objective"] or Search().objective},
        }
        if cleaned["seconds"] is not None:
            sections["search"]["seconds"] = cleaned["seconds"]
        is_own = cleaned["preset"] == OWN
        cleaned["order"] = merge_recipe(sections, cleaned["recipe"])
        try:
            parse_recipe(
                {"schema": SCHEMA, **cleaned["order"]}
                if is_own
                else merge_recipe(PRESETS[cleaned["preset"]].recipe, cleaned["order"])
            )
        except RecipeInvalidError as error:
            self.add_error("recipe", error.message)
        if is_own:
            cleaned["order"].setdefault("schema", SCHEMA)
        return cleaned

    def to_order(self) -> dict[str, Any]:
        """What `submit_job` takes, but version and actor."""
        cleaned = self.cleaned_data
        preset = "" if cleaned["preset"] == OWN else cleaned["preset"]
        names = ("calibration_dataset", "evaluation_dataset", "variant_name")
        return {"preset": preset, "recipe": cleaned["order"], **{n: cleaned[n] for n in names}}


def _describe_parameter(rule: dict[str, Any]) -> str:
    """`ratio 0.01 to 0.95, else 0.4`."""
    if rule["choices"]:
        values = " | ".join(str(value) for value in rule["choices"])
    elif rule["minimum"] is not None and rule["maximum"] is not None:
        values = f"{rule['minimum']:,g} to {rule['maximum']:,g}"
    else:
        values = {"bool": "true | false", "names": "[names]"}.get(rule["kind"], rule["kind"])
    default = "decided by the pass" if rule["default"] is None else json.dumps(rule["default"])
    return f"{rule['name']}: {values} (else {default})"


def _label_dataset(dataset: DataSet) -> str:
    return f"{dataset.name} ({dataset.rows:,} rows, {dataset.get_kind_display().lower()})"
