"""Forms of the fleet's pages; each only reads what a person typed, services do the rest."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from fleet.models import Deployment, Gate, JoinToken, Rollout, RolloutStage
from fleet.rules.gate_metrics import METRICS, is_gate_metric
from registry.admin.fields import VersionChoiceField
from registry.models import Alias, Variant, Version

_SEPARATOR = re.compile(r"[,\n]")


def parse_labels(text: str) -> dict[str, str]:
    """`site=lyon, line=3` as a map.

    Raises:
        ValidationError: an entry has no `=` or no name.
    """
    labels: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in _SEPARATOR.split(text))):
        name, sign, value = entry.partition("=")
        if not sign or not name.strip():
            raise ValidationError(f"Write name=value, not {entry!r}.")
        labels[name.strip()] = value.strip()
    return labels


def format_labels(labels: dict[str, Any] | None) -> str:
    """The map as `parse_labels` reads it."""
    return ", ".join(f"{name}={value}" for name, value in sorted((labels or {}).items()))


def parse_selector(text: str) -> dict[str, list[str]]:
    """`site=lyon|nice, arch=arm64` as label to allowed values."""
    return {
        name: [value.strip() for value in values.split("|") if value.strip()]
        for name, values in parse_labels(text).items()
    }


def format_selector(selector: dict[str, Any] | None) -> str:
    """The selector as `parse_selector` reads it."""
    return format_labels(
        {
            name: "|".join(str(value) for value in values)
            for name, values in (selector or {}).items()
        }
    )


class LabelsField(forms.CharField):
    """A map of strings written as `name=value`, separated by commas."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return format_labels(value) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        return parse_labels(super().to_python(value) or "")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (self.prepare_value(initial) or "") != (data or "")


class SelectorField(LabelsField):
    """A selector written as `name=value|other value`, separated by commas."""

    def prepare_value(self, value: Any) -> Any:
        return format_selector(value) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        return parse_selector(forms.CharField.to_python(self, value) or "")


#: Long enough to walk to the device with it.
JOIN_TOKEN_LIFE = timedelta(days=1)


class JoinTokenForm(forms.ModelForm):
    """What a join token allows; it lives for a day unless a person says otherwise."""

    labels = LabelsField(
        required=False, help_text="Given to every device that joins: site=lyon, line=3"
    )

    class Meta:
        model = JoinToken
        fields = ["name", "labels", "is_auto_accept", "max_uses", "expires_at"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("expires_at", timezone.now() + JOIN_TOKEN_LIFE)


class VariantNamesField(forms.CharField):
    """Names of variants, separated by commas; None when empty."""

    widget = UnfoldAdminTextInputWidget

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        return [name for name in (part.strip() for part in text.split(",")) if name] or None


class DeploymentForm(forms.ModelForm):
    """Which devices run which version; another version makes a rollout unless it is at once."""

    service_error: str | None = None

    stable_version = VersionChoiceField(required=False)
    variant_names = VariantNamesField(
        required=False,
        label="Variants",
        help_text="Of the stable version, as fp32, int8. Empty names all it can offer now; one "
        "that is attached later waits for a rollout.",
    )

    selector = SelectorField(
        required=False,
        help_text="Devices must have every label: site=lyon|nice, arch=arm64. Empty takes all.",
    )

    class Meta:
        model = Deployment
        fields = [
            "name", "model", "selector", "priority", "stable_version", "follows", "floor_sequence",
        ]  # fmt: skip

    is_at_once = forms.BooleanField(
        required=False,
        label="At once",
        widget=UnfoldBooleanSwitchWidget,
        help_text="Move all devices to the new version or variants now. Without this they move "
        "by a rollout, whose draft you are shown.",
    )
    confirmed_devices = forms.IntegerField(
        required=False,
        min_value=0,
        widget=UnfoldAdminTextInputWidget,
        help_text="How many devices may move at once; you are told the number and asked to type "
        "it here.",
    )
    reason = forms.CharField(
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Kept in the audit log; needed at once, and for a version that was taken back.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = self.instance
        versions = Version.objects.deployable()
        if own.pk:
            self.initial["variant_names"] = ", ".join(v.name for v in own.variants.all())
            # A withdrawn version stays shown where it is the stable one.
            versions = versions | Version.objects.filter(pk=own.stable_version_id or 0)
            versions = versions.filter(model=own.model_id)
            follows = self.fields.get("follows")
            if isinstance(follows, forms.ModelChoiceField):
                follows.queryset = Alias.objects.filter(model=own.model_id)
        field = self.fields.get("stable_version")
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = versions.select_related("model").order_by("model__slug", "-sequence")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        version, model = cleaned.get("stable_version"), cleaned.get("model")
        model = model or (self.instance.model_id and self.instance.model)
        if version is not None and model and version.model_id != model.pk:
            self.add_error("stable_version", f"{version} is not a version of {model}.")
        if self.service_error:
            raise ValidationError(self.service_error)
        return cleaned


class RolloutForm(forms.ModelForm):
    """Where a deployment is to go; what it comes from is taken when it is saved."""

    service_error: str | None = None

    target_version = VersionChoiceField(
        help_text="Approved versions only. The stable version itself, to offer other variants."
    )
    variant_names = VariantNamesField(
        required=False,
        label="Variants",
        help_text="Of the target, as fp32, int8. Empty names all it can offer now.",
    )
    reason = forms.CharField(
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Kept in the timeline; needed for a version that was taken back.",
    )

    class Meta:
        model = Rollout
        fields = [
            "deployment", "target_version", "is_approval_required", "max_failures",
            "max_failure_rate", "max_in_flight", "offers_per_minute", "scheduled_at",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("target_version")
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = (
                Version.objects.deployable()
                .select_related("model")
                .order_by("model__slug", "-sequence")
            )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        version, deployment = cleaned.get("target_version"), cleaned.get("deployment")
        if version and deployment and version.model_id != deployment.model_id:
            self.add_error(
                "target_version", f"{deployment} runs {deployment.model}, not {version.model}."
            )
        if self.service_error:
            raise ValidationError(self.service_error)
        return cleaned


class VariantRolloutForm(forms.Form):
    """Which deployment is to offer one more variant."""

    deployment = forms.ModelChoiceField(Deployment.objects.none(), widget=UnfoldAdminSelectWidget())
    reason = forms.CharField(
        required=False, max_length=500, widget=UnfoldAdminTextInputWidget(), help_text="Kept."
    )

    def __init__(self, *args: Any, variant: Variant, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.variant = variant
        self.deployments = (
            Deployment.objects.filter(
                model_id=variant.version.model_id, state=Deployment.State.ACTIVE
            )
            .select_related("stable_version")
            .prefetch_related("variants")
        )
        field = self.fields["deployment"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = self.deployments
        if len(self.deployments) == 1:
            self.initial["deployment"] = self.deployments[0]

    def describe(self) -> list[str]:
        """What each deployment offers now and would offer then."""
        lines = []
        for row in self.deployments:
            now = [variant.name for variant in row.variants.all()]
            stable = row.stable_version.version if row.stable_version else "nothing"
            is_same = row.stable_version_id == self.variant.version_id
            then = ", ".join([*now, self.variant.name] if is_same else [self.variant.name])
            lines.append(
                f"“{row.name}” offers {stable} ({', '.join(now) or 'no variant'}); then "
                f"{self.variant.version.version} ({then})."
            )
        return lines or ["No active deployment has this model."]


class RowForm(forms.ModelForm):
    """A row of a table, whose fields are named by the column's head for the eye alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.setdefault("aria-label", field.label)


class StageForm(RowForm):
    """One stage; a row without percentage and selector is left out."""

    canary_selector = SelectorField(required=False)

    class Meta:
        model = RolloutStage
        fields = [
            "percent", "canary_selector", "bake_seconds", "patience_seconds", "success_threshold",
            "advance",
        ]  # fmt: skip

    def has_changed(self) -> bool:
        # The rows proposed by the page count although the person left them as they are.
        return bool(_typed(self, "percent") or _typed(self, "canary_selector"))


class MetricInput(UnfoldAdminTextInputWidget):
    """A field with the table of metrics as its list, open for one of a person's own."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        listed = {**(attrs or {}), "list": f"{name}-metrics"}
        options = format_html_join(
            "", '<option value="{}">{}</option>', ((m.name, m.title) for m in METRICS.values())
        )
        field = super().render(name, value, listed, renderer)
        return format_html('{}<datalist id="{}-metrics">{}</datalist>', field, name, options)


class GateForm(RowForm):
    """One gate; a row without a threshold is left out."""

    class Meta:
        model = Gate
        fields = ["metric", "threshold", "action", "is_dry_run", "query", "max_age_seconds"]
        widgets: ClassVar[dict[str, Any]] = {
            "metric": MetricInput(), "query": UnfoldAdminTextInputWidget(),
        }  # fmt: skip

    def clean_metric(self) -> str:
        name = str(self.cleaned_data["metric"])
        if not is_gate_metric(name):
            raise ValidationError(f"{name} is no metric; choose one of the list, or name own:….")
        return name

    def has_changed(self) -> bool:
        return bool(_typed(self, "metric") and _typed(self, "threshold"))


def _typed(form: forms.ModelForm, name: str) -> str:
    return str(form.data.get(form.add_prefix(name)) or "").strip()
