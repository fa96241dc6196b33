"""How the list of devices is searched, filtered and paged, at a million rows as at ten."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Q, QuerySet, prefetch_related_objects
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.views import ChangeList

from fleet.admin.base import release_names
from fleet.admin.device_page import FRESH
from fleet.models import Device, DeviceIncident, Quarantine
from fleet.selection import having_value, matching
from fleet.selectors import prefetch_firing, with_firing

#: Rows that a list counts and pages through.
MOST_LISTED = 10_000
#: Versions of the agent that are offered as a filter.
MOST_VERSIONS = 100
#: Kinds of incidents that fire on a device, to the theme's colour.
FIRING_COLOURS = {"drift": "danger", "drift+resource": "danger", "resource": "warning"}


class DeviceChangeList(ChangeList):
    """Rows that know what they run and what fires on them, looked up once for the page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)  # type: ignore[has-type]
        prefetch_related_objects(rows, prefetch_firing())
        names = release_names(digest for row in rows for digest in row.running.values())
        for row in rows:
            row.release_names = names
        self.result_list = rows


class SeenFilter(admin.SimpleListFilter):
    """Devices by how lately they were heard."""

    title = "last seen"
    parameter_name = "seen"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("fresh", "In the last 10 minutes"), ("silent", "Longer ago"), ("never", "Never")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        limit = timezone.now() - FRESH
        match self.value():
            case "fresh":
                return queryset.filter(last_seen_at__gte=limit)
            case "silent":
                return queryset.filter(last_seen_at__lt=limit)
            case "never":
                return queryset.filter(last_seen_at__isnull=True)
        return queryset


class QuarantineFilter(admin.SimpleListFilter):
    """Devices that releases are held back from."""

    title = "quarantine"
    parameter_name = "quarantine"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Has quarantined releases")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        held = Quarantine.objects.filter(cleared_at__isnull=True).values("device")
        return queryset.filter(pk__in=held) if self.value() == "yes" else queryset


class AgentFilter(admin.SimpleListFilter):
    """Devices by the version of their agent."""

    title = "agent version"
    parameter_name = "agent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(version, version or "unknown") for version in agent_versions()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        version = self.value()
        return queryset if version is None else queryset.filter(agent_version=version)


class FiringFilter(admin.SimpleListFilter):
    """Devices by what they themselves find wrong."""

    title = "fires on the device"
    parameter_name = "firing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("drift", "Drift"), ("resource", "Resources"), ("any", "Anything")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        kinds = DeviceIncident.Kind.values if self.value() == "any" else [str(self.value())]
        return with_firing(queryset, *kinds) if self.value() else queryset


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than `MOST_LISTED` rows: who looks for one of a million searches for it."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:MOST_LISTED].count())


def search_devices(devices: QuerySet[Device], words: str) -> QuerySet[Device]:
    """Those that every word finds: part of an id, a label's value, or `name=value`."""
    for word in words.split():
        name, sign, value = word.partition("=")
        if sign and name:
            devices = devices.filter(matching({name: [value]}))
        else:
            devices = devices.filter(Q(device_id__icontains=word) | Q(having_value(word)))
    return devices


def agent_versions() -> list[str]:
    """Every version of the agent that some device has, in order; one step of the index for each."""
    with connection.cursor() as cursor:
        cursor.execute(_AGENT_VERSIONS, [MOST_VERSIONS])
        return [version for (version,) in cursor.fetchall()]


_AGENT_VERSIONS = """
WITH RECURSIVE versions (version) AS (
    SELECT min(agent_version) FROM fleet_device
    UNION ALL
    SELECT (SELECT min(agent_version) FROM fleet_device WHERE agent_version > version)
    FROM versions WHERE version IS NOT NULL
)
SELECT version FROM versions WHERE version IS NOT NULL ORDER BY 1 LIMIT %s
"""
