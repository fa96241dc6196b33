"""Devices by their labels, their agent, and when they were last seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import Device

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture(autouse=True)
def devices(db: None) -> None:
    for name, labels, attributes, seen in (
        ("cam-1", {"site": "lyon"}, {"site": "default", "line": "a"}, NOW),
        ("cam-2", {}, {"site": "lyon", "line": "b"}, NOW - timedelta(hours=2)),
        ("cam-3", {"site": "nice", "it's": "x__y"}, {}, None),
    ):
        Device.objects.create(
            device_id=name, labels=labels, attributes=attributes, last_seen_at=seen,
            agent_version="0.2.0" if seen else "",
        )  # fmt: skip


def found(api: APIClient, query: Any) -> list[str]:
    answer = api.get("/api/v1/devices/", query)
    assert answer.status_code == 200, answer.json()
    return sorted(row["device_id"] for row in answer.json()["results"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"label": "site=lyon"}, ["cam-1", "cam-2"]),
        ({"label": "site=lyon,line=b"}, ["cam-2"]),
        ({"label": "site=default"}, []),  # the label overrules the attribute
        ({"label": "it's=x__y"}, ["cam-3"]),
        ({"label": "site__x=1"}, []),
        ({"agent_version": "0.2.0"}, ["cam-1", "cam-2"]),
        ({"seen_since": (NOW - timedelta(hours=1)).isoformat()}, ["cam-1"]),
        ({"unseen_since": (NOW - timedelta(hours=1)).isoformat()}, ["cam-2"]),
    ],
)
def test_devices_are_found(api: APIClient, query: Any, expected: list[str]) -> None:
    assert found(api, query) == expected


@pytest.mark.parametrize("label", ["site", "=lyon"])
def test_a_label_that_is_none_is_refused(api: APIClient, label: str) -> None:
    assert api.get("/api/v1/devices/", {"label": label}).status_code == 400
