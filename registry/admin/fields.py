"""Form fields that choose a version, with the warnings that belong to it."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget

from registry.hooks import marks
from registry.models import Version
from registry.states import DEPLOYABLE_STATES


class VersionChoiceField(forms.ModelChoiceField):
    """Versions to choose from, newest first; one that is not simply good to use says why."""

    def __init__(self, queryset: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminSelectWidget())
        super().__init__(Version.objects.all() if queryset is None else queryset, **kwargs)
        self._marks: dict[int, str] | None = None

    def label_from_instance(self, obj: Any) -> str:
        if self._marks is None and self.queryset is not None:
            self._marks = marks(self.queryset.values_list("pk", flat=True))
        words = [str(obj)]
        if obj.state not in DEPLOYABLE_STATES or obj.state == "deprecated":
            words.append(obj.get_state_display().lower())
        if self._marks and obj.pk in self._marks:
            words.append(f"⚠ {self._marks[obj.pk]}")
        return " · ".join(words)
