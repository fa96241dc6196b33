"""A healthy span of the fleet as the reference."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from ingest.exceptions import ReferenceTooSmallError
from ingest.models import DriftPolicy
from ingest.rules.windows import WindowCounts
from ingest.services.references import pin_fleet_reference
from registry.exceptions import InvalidFieldError
from registry.models import AuditEvent, Baseline
from tests.factories.ingest import make_device, make_release, make_window

pytestmark = pytest.mark.django_db
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = {"start": START, "end": START + timedelta(hours=1)}


@pytest.fixture
def version():
    variant = make_release()
    DriftPolicy.objects.create(model=variant.version.model, min_devices=3)
    for index in range(3):
        counts = WindowCounts(
            n=400,
            confidence_n=400,
            confidence=[0] * 63 + [400],
            classes=[40] * 10 + [0],
            latency_n=400,
            latency={20: 400},
        )
        make_window(make_device(f"edge-{index}", variant), variant, START, counts)
    return variant.version


def test_the_fleets_counts_become_the_active_baseline(version):
    row = pin_fleet_reference(version=version, reason="healthy week", actor="ada", **SPAN)
    assert Baseline.objects.get(version=version, is_active=True) == row
    assert row.profile["n"] == 1200 and row.profile["latency"]["counts"] == {"20": 1200}
    assert AuditEvent.objects.filter(action="baseline.pinned").count() == 1


def test_too_little_is_no_reference(version):
    DriftPolicy.objects.update(min_devices=20)
    with pytest.raises(ReferenceTooSmallError):
        pin_fleet_reference(version=version, reason="healthy", actor="ada", **SPAN)
    assert Baseline.objects.count() == 1


def test_a_reference_needs_a_reason(version):
    with pytest.raises(InvalidFieldError):
        pin_fleet_reference(version=version, reason=" ", actor="ada", **SPAN)


def test_it_is_pinned_over_the_api(version):
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    body = {
        "version": "1.0.0",
        "since": START.isoformat(),
        "until": SPAN["end"].isoformat(),
        "reason": "healthy",
    }
    url = "/api/v1/models/digits-cnn/drift-reference/"
    assert client.post(url, body, content_type="application/json").status_code == 201
    assert Client().post(url, body, content_type="application/json").status_code in (401, 403)
