"""Which rows of the management API are asked for."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet

from fleet.models import Device, DeviceIncident
from fleet.selectors import with_firing


class DeviceFilter(django_filters.FilterSet):
    """Devices by id, status, and what fires on them: `firing=drift` or `firing=resource`."""

    firing = django_filters.ChoiceFilter(
        choices=DeviceIncident.Kind.choices, method="filter_firing"
    )

    class Meta:
        model = Device
        fields = {"status": ["exact"], "device_id": ["exact", "startswith"]}

    def filter_firing(self, queryset: QuerySet[Device], name: str, value: str) -> QuerySet[Device]:
        return with_firing(queryset, value)


class DeviceIncidentFilter(django_filters.FilterSet):
    """Incidents by device, kind, model and metric; `firing=true` for those not over."""

    device = django_filters.CharFilter(field_name="device__device_id")
    model = django_filters.CharFilter(field_name="model_slug")
    firing = django_filters.BooleanFilter(field_name="resolved_at", lookup_expr="isnull")

    class Meta:
        model = DeviceIncident
        fields = ["kind", "metric"]
