"""Devices chosen and counted by the database are those that the pure rules choose."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from django.db import connection

from fleet.foresight import foresee
from fleet.kinds import count_buckets, count_kinds
from fleet.models import Deployment, Device
from fleet.polling.plans import build_plan
from fleet.rules.assignment import assign, bucket_of, matches, pick_deployment
from fleet.selection import accepted_devices, deployment_devices, having_value, matching
from fleet.selectors import device_facts, preview_stages
from fleet.services.rollouts import start_rollout
from registry.models import Variant
from tests.factories.fleet import make_deployment, make_release, make_rollout, manifest_of

pytestmark = pytest.mark.django_db

VALUES = ["lyon", "nice", "", "a'b", 'q"u', "back\\slash", "100%", "é", "null", "site-1"]
SELECTORS: list[dict[str, list[str]]] = [
    {},
    {"site": ["lyon"]},
    {"site": ["lyon", "nice"], "ring": ["early"]},
    {"site": [""]},
    {"ring": ["a'b", 'q"u', "back\\slash"]},
    {"odd name.with'signs": ["100%"]},
    {"nobody has": ["x"]},
    {"site": []},
    {"device_id": ["d-1", "d-3", "d-none"]},
    {"device_id": ["d-1"], "site": VALUES},
    {"site": [f"v{number}" for number in range(60)] + ["nice"]},
]


def make_fleet(count: int = 60) -> list[Device]:
    """Devices with attributes overruled by labels here and there, the same every time."""
    chance = random.Random(7)
    rows = []
    for number in range(count):
        attributes = {
            name: chance.choice(VALUES)
            for name in ("site", "ring", "odd name.with'signs")
            if chance.random() < 0.8
        }
        labels = {"site": chance.choice(VALUES)} if chance.random() < 0.3 else {}
        if chance.random() < 0.2:
            labels["ring"] = "early"
        rows.append(
            Device(
                device_id=f"d-{number}",
                status="accepted" if chance.random() < 0.9 else "suspended",
                attributes=attributes,
                labels=labels,
                capabilities={"arch": "x86_64", "providers": ["cpu"], "memory_mb": 4096},
                generation=chance.randrange(3),
            )
        )
    Device.objects.bulk_create(rows)
    return list(Device.objects.order_by("pk"))


@pytest.mark.parametrize("selector", SELECTORS, ids=str)
def test_the_database_takes_the_devices_that_match(selector: dict[str, list[str]]) -> None:
    devices = make_fleet()
    taken = set(Device.objects.filter(matching(selector)).values_list("device_id", flat=True))
    wanted = {d.device_id for d in devices if matches(selector, d.selectable)}
    assert taken == wanted
    left = set(Device.objects.exclude(matching(selector)).values_list("device_id", flat=True))
    if selector:
        assert left == {d.device_id for d in devices} - wanted


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_found_under_whatever_name(value: str) -> None:
    devices = make_fleet()
    found = set(Device.objects.filter(having_value(value)).values_list("device_id", flat=True))
    # An id is no label here; it has a search of its own.
    wanted = {d.device_id for d in devices if value in {**d.attributes, **d.labels}.values()}
    assert found == wanted


def test_a_deployment_has_what_none_of_higher_rank_takes() -> None:
    devices = make_fleet()
    first = make_deployment(selector={"site": VALUES})
    model, version = first.model, first.stable_version
    for number, (selector, priority) in enumerate(
        [({"site": ["lyon"]}, 5), ({"ring": ["early"]}, 0), ({"device_id": ["d-1"]}, -1)]
    ):
        make_deployment(
            name=f"other-{number}", stable_version=version, selector=selector, priority=priority
        )
    make_deployment()  # of another model
    rows: list[dict[str, Any]] = [
        {"id": row.pk, "selector": row.selector, "priority": row.priority}
        for row in Deployment.objects.filter(model=model)
    ]
    for row in Deployment.objects.filter(model=model):
        taken = set(deployment_devices(row).values_list("device_id", flat=True))
        wanted = set()
        for device in devices:
            winner = pick_deployment(rows, device.selectable)
            if device.status == "accepted" and winner is not None and winner["id"] == row.pk:
                wanted.add(device.device_id)
        assert taken == wanted
    first.state = Deployment.State.RETIRED
    assert not deployment_devices(first).exists()


def test_buckets_are_counted_as_the_rule_computes_them() -> None:
    devices = make_fleet(300)
    counts = count_buckets(accepted_devices(), "salt-é")
    wanted = Counter(bucket_of("salt-é", d.device_id) for d in devices if d.status == "accepted")
    assert {bucket: n for bucket, n in enumerate(counts) if n} == dict(wanted)


def make_live_rollout(**over: Any) -> tuple[list[Device], Deployment, Any]:
    devices = make_fleet(200)
    deployment = make_deployment(selector={"site": [*VALUES]})
    make_deployment(
        name="rival", stable_version=deployment.stable_version, selector={"ring": ["early"]}
    )
    target = make_release(deployment.model)
    Device.objects.filter(device_id="d-5").update(quarantined=[manifest_of(target)])
    Device.objects.filter(device_id="d-6").update(
        pins={deployment.model.slug: manifest_of(deployment.stable_version)}
    )
    Device.objects.filter(device_id="d-7").update(capabilities={"arch": "arm64"})
    rollout = make_rollout(
        deployment=deployment,
        target_version=target,
        stages=[
            {"percent": 5, "canary_selector": {"site": ["lyon"]}},
            {"percent": 30, "canary_selector": {"device_id": ["d-9", "d-11"]}},
            {"percent": 100},
        ],
        **over,
    )
    return devices, deployment, rollout


def test_each_kind_is_answered_as_every_device_in_it() -> None:
    _, deployment, rollout = make_live_rollout()
    before = build_plan(model_id=deployment.model_id)
    start_rollout(rollout_id=rollout.pk, actor="tester")
    after = build_plan(model_id=deployment.model_id)
    slug = deployment.model.slug

    def told(facts: Any) -> tuple[Any, ...]:
        found = [assign(plan, 0, facts) for plan in (before, after)]
        return tuple(one and (one.manifest_sha256, one.cohort) for one in found)

    wanted: Counter[Any] = Counter()
    for device in accepted_devices():
        wanted[told(device_facts(device, slug))] += 1
    counted: Counter[Any] = Counter()
    kinds = list(count_kinds(accepted_devices(), model=slug, plans=[before, after]))
    for facts, n in kinds:
        counted[told(facts)] += n
    assert counted == wanted and len(counted) > 3
    if connection.vendor == "postgresql":
        assert len(kinds) < sum(wanted.values())


def test_a_preview_counts_each_stage_as_the_plan_will_reach_it() -> None:
    _, deployment, rollout = make_live_rollout()
    rows = preview_stages(rollout)
    assert {row["of"] for row in rows} == {deployment_devices(deployment).count()}
    devices = [row["devices"] for row in rows]
    assert devices == sorted(devices) and devices[-1] == rows[0]["of"] and devices[0] > 0
    effect = foresee(
        deployment.model_id, lambda: start_rollout(rollout_id=rollout.pk, actor="tester")
    )
    first = rows[0]
    pinned = deployment_devices(deployment).filter(device_id="d-6").count()
    assert first["devices"] - first["incompatible"] - first["unchanged"] - effect.devices <= pinned
    assert Variant.objects.filter(manifest_sha256__isnull=False).exists()


def test_foresight_and_preview_cost_the_same_for_any_fleet(
    django_assert_max_num_queries: Any,
) -> None:
    _, _, rollout = make_live_rollout()
    with django_assert_max_num_queries(16):
        preview_stages(rollout)
