"""Which rows of the management API are asked for."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet

from fleet.exceptions import InvalidFleetInputError
from fleet.models import Device, DeviceGroup, DeviceIncident
from fleet.selection import matching, parse_label_filter
from fleet.selectors import with_firing


class DeviceFilter(django_filters.FilterSet):
    """Devices by id, status, labels (`label=site=lyon,ring=early`), and what fires on
    them: `firing=drift` or `firing=resource`."""

    label = django_filters.CharFilter(
        method="filter_label", help_text="`name=value`; several are divided by commas."
    )

    group = django_filters.CharFilter(method="filter_group", help_text="The name of a saved group.")
    firing = django_filters.ChoiceFilter(
        choices=DeviceIncident.Kind.choices, method="filter_firing"
    )
    agent_version = django_filters.CharFilter()
    seen_since = django_filters.IsoDateTimeFilter(field_name="last_seen_at", lookup_expr="gte")
    unseen_since = django_filters.IsoDateTimeFilter(field_name="last_seen_at", lookup_expr="lt")

    class Meta:
        model = Device
        fields = {"status": ["exact"], "device_id": ["exact", "startswith"]}

    def filter_label(self, queryset: QuerySet[Device], name: str, value: str) -> QuerySet[Device]:
        return queryset.filter(matching(parse_label_filter(value)))

    def filter_group(self, queryset: QuerySet[Device], name: str, value: str) -> QuerySet[Device]:
        group = DeviceGroup.objects.filter(name=value).first()
        if group is None:
            raise InvalidFleetInputError(f"group: there is no group {value[:100]!r}")
        return queryset.filter(matching(group.selector))

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
