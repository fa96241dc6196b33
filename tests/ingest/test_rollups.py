"""Roll-ups beside windows, and a judgement that reads nothing else."""

import importlib
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.models import Device
from ingest.models import DeviceTests, DriftEvaluation, DriftPolicy, RollUp, Window
from ingest.rules.clusters import unpack
from ingest.rules.counting import CellKey
from ingest.rules.windows import WindowCounts
from ingest.selectors.rollups import sum_rollups
from ingest.services.evaluation import evaluate_model, examine_devices_of_model
from ingest.services.rollups import append_rollups, compact_rollups
from ingest.services.windows import add_to_windows
from tests.factories.ingest import make_device, make_release, make_window

pytestmark = pytest.mark.django_db
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def variant():
    release = make_release()
    DriftPolicy.objects.create(model=release.version.model, min_devices=3, lookback_windows=1)
    return release


def make_fleet(variant, count):
    return [
        make_device(
            f"edge-{i}", variant, attributes={"site": f"s{i % 3}", "hardware_class": f"h{i % 2}"}
        )
        for i in range(count)
    ]


def counts(seed, n=200):
    return WindowCounts(
        n=n, classes=[*np.random.default_rng(seed).multinomial(n, [0.1] * 10).tolist(), 0]
    )


def key_of(device, variant, start=START):
    return CellKey(device.pk, variant.version_id, variant.pk, "stable", int(start.timestamp()))


def test_counting_appends_what_it_adds_to_windows(variant):
    fleet = make_fleet(variant, 6)
    for _ in range(2):
        add_to_windows({key_of(device, variant): WindowCounts(n=5) for device in fleet})
    assert Window.objects.count() == 6 and RollUp.objects.count() == 12
    found = sum_rollups(variant.version_id, START, START + HOUR)
    assert found.ids.tolist() == sorted(device.pk for device in fleet)
    assert found.column("n").tolist() == [10.0] * 6
    cells = {json.dumps(json.loads(cell)) for cell in RollUp.objects.values_list("cell", flat=True)}
    assert len(cells) == 6 and '{"hardware_class": "h0", "site": "s0"}' in cells


def test_appending_takes_two_statements_for_any_number_of_devices(variant):
    for count in (2, 12):
        fleet = make_fleet(variant, count)
        with CaptureQueriesContext(connection) as told:
            append_rollups({key_of(device, variant): WindowCounts(n=5) for device in fleet})
        assert len(told) == 2
        for device in fleet:
            device.delete()


def test_parts_put_together_sum_to_the_same(variant):
    fleet = make_fleet(variant, 4)
    for turn in range(3):
        for hour in range(2):
            added = {key_of(d, variant, START + hour * HOUR): counts(turn) for d in fleet}
            append_rollups(added)
        before = sum_rollups(variant.version_id, START, START + 2 * HOUR).rows()
        assert compact_rollups() > 0
        assert sum_rollups(variant.version_id, START, START + 2 * HOUR).rows() == before
        assert RollUp.objects.count() == 8 and not RollUp.objects.filter(is_part=True).exists()
    assert compact_rollups() == 0


def test_a_bounded_number_of_parts_is_put_together_at_a_time(variant):
    (device,) = make_fleet(variant, 1)
    for _ in range(5):
        append_rollups({key_of(device, variant): WindowCounts(n=1)})
    assert compact_rollups(limit=3) == 3
    assert sum_rollups(variant.version_id, START, START + HOUR).total("n") == 5


def test_a_judgement_reads_no_device_and_as_much_for_many_as_for_few(variant):
    taken = []
    # The first one of all makes the rule that raises incidents.
    for number, size in enumerate((3, 6, 90)):
        start = START + number * HOUR
        for seed, device in enumerate(make_fleet(variant, size)):
            make_window(device, variant, start, counts(seed))
        now = start + HOUR + timedelta(minutes=30)
        compact_rollups()
        examine_devices_of_model(model_id=variant.version.model_id, now=now)
        with CaptureQueriesContext(connection) as told:
            assert evaluate_model(model_id=variant.version.model_id, now=now) > 0
        statements = [query["sql"] for query in told]
        assert not [sql for sql in statements if "ingest_window" in sql or "fleet_device" in sql]
        taken.append(len(statements))
        Device.objects.all().delete()
    assert taken[1] == taken[2]
    row = DriftEvaluation.objects.get(
        metric="prediction_psi", slice="all", period_end=START + 3 * HOUR
    )
    assert row.devices == 90 and row.n == 90 * 200 and row.status == "healthy"


def test_devices_are_tested_once_for_a_period_and_the_newest_is_kept(variant):
    fleet = make_fleet(variant, 6)
    for hour in range(3):
        for seed, device in enumerate(fleet):
            make_window(device, variant, START + hour * HOUR, counts(10 * hour + seed))
        now = START + (hour + 1) * HOUR + timedelta(minutes=30)
        examine_devices_of_model(model_id=variant.version.model_id, now=now)
        row = DeviceTests.objects.get()
        assert row.period_end == START + (hour + 1) * HOUR and len(row.found) == 6
        with CaptureQueriesContext(connection) as told:
            examine_devices_of_model(model_id=variant.version.model_id, now=now)
        assert not [query for query in told if "ingest_window" in query["sql"]]
        evaluate_model(model_id=variant.version.model_id, now=now)
    judged = DriftEvaluation.objects.filter(metric="changed_devices", slice="all")
    assert judged.order_by("-period_end").first().devices == 6


def test_windows_of_before_are_rolled_up_when_the_table_is_made(variant):
    fleet = make_fleet(variant, 7)
    for seed, device in enumerate(fleet):
        for days in (0, 3, 30):
            make_window(device, variant, START - timedelta(days=days), counts(seed))
    span = (variant.version_id, START - timedelta(days=9), START + HOUR)
    expected = sum_rollups(*span).rows()
    RollUp.objects.all().delete()
    migration = importlib.import_module("ingest.migrations.0011_roll_up_windows")
    migration.roll_up(apps, None)
    assert sum_rollups(*span).rows() == expected
    assert not RollUp.objects.filter(start=START - timedelta(days=30)).exists()
    assert all(unpack(bytes(row.data)).devices for row in RollUp.objects.all())
    before = RollUp.objects.count()
    migration.roll_up(apps, None)
    assert RollUp.objects.count() == before
