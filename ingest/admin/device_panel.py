"""The part of a device's page that comes from what it reported."""

from typing import Any

from django.utils import timezone

from fleet.admin.device_page import add_panel
from fleet.models import Device
from ingest.selectors.device_beside_class import compare_with_class


def gather(device: Device) -> dict[str, Any]:
    return compare_with_class(device, timezone.now())


add_panel("ingest/device_panel.html", gather)
