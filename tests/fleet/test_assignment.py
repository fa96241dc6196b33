"""Assignment is a pure function of plan, counter and device."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleet.rules.assignment import (
    BUCKETS,
    LIFETIME,
    DeviceFacts,
    assign,
    assignment_payload,
    bucket_of,
    buckets_of_percent,
    cohort_of,
    etag_of,
    issue_period,
    matches,
)

ids = st.text(alphabet="abcdefghij-0123456789", min_size=1, max_size=20)
percents = st.floats(min_value=0, max_value=100)


def terms(percent: float, salt: str = "s", **over: Any) -> dict[str, Any]:
    reach = buckets_of_percent(percent)
    return {"salt": salt, "exposed": reach, "reach": reach, "canaries": [], **over}


def release(version: str, sequence: int, digest: str, **requirements: Any) -> dict[str, Any]:
    variant = {
        "name": "fp32",
        "manifest_sha256": digest,
        "requirements": requirements,
        "size_bytes": 10,
    }
    return {"version": version, "sequence": sequence, "variants": [variant]}


def make_plan(percent: float | None = None, **over: Any) -> dict[str, Any]:
    deployment = {
        "id": 1,
        "selector": {},
        "priority": 0,
        "floor_sequence": 1,
        "stable": release("1.0.0", 1, "a" * 64),
        "rollout": None,
        **over,
    }
    if percent is not None:
        target = over.get("target", release("2.0.0", 2, "b" * 64))
        deployment["rollout"] = {"id": 7, "stage": 0, "target": target, **terms(percent)}
    return {"model": "digits", "deployments": [deployment]}


def facts(device_id: str = "edge-1", **over: Any) -> DeviceFacts:
    return DeviceFacts(**{"device_id": device_id, "labels": {}, "capabilities": {}, **over})


@given(ids, percents, percents)
def test_growing_the_percentage_never_takes_a_device_back(
    device_id: str, one: float, two: float
) -> None:
    low, high = sorted((one, two))
    if cohort_of(terms(low), device_id, {}) == "canary":
        assert cohort_of(terms(high), device_id, {}) == "canary"


@given(ids, ids)
def test_buckets_are_sticky_and_in_range(salt: str, device_id: str) -> None:
    assert bucket_of(salt, device_id) == bucket_of(salt, device_id)
    assert 0 <= bucket_of(salt, device_id) < BUCKETS


@given(ids)
def test_everyone_is_reached_at_a_hundred_percent_and_nobody_at_zero(device_id: str) -> None:
    assert cohort_of(terms(100), device_id, {}) == "canary"
    assert cohort_of(terms(0), device_id, {}) != "canary"


def test_canary_and_control_are_as_large_as_the_percentage_and_apart() -> None:
    cohorts = [cohort_of(terms(10), f"device-{n}", {}) for n in range(5000)]
    assert 400 < cohorts.count("canary") < 600
    assert 400 < cohorts.count("control") < 600


def test_control_shrinks_past_half_of_the_fleet() -> None:
    cohorts = [cohort_of(terms(90), f"device-{n}", {}) for n in range(5000)]
    assert 400 < cohorts.count("control") < 600
    assert cohorts.count("stable") == 0


def test_a_canary_selector_reaches_its_devices_whatever_their_bucket() -> None:
    rollout = terms(0, canaries=[{"site": ["lab"]}])
    assert cohort_of(rollout, "any", {"site": "lab"}) == "canary"
    assert cohort_of(rollout, "any", {"site": "plant"}) != "canary"


def test_every_label_of_a_selector_must_hold() -> None:
    selector = {"site": ["a", "b"], "arch": ["arm64"]}
    assert matches(selector, {"site": "b", "arch": "arm64"})
    assert not matches(selector, {"site": "b"})
    assert matches({}, {})


def test_priority_settles_overlap_and_then_the_newest() -> None:
    plan = make_plan()
    plan["deployments"].append(
        {**plan["deployments"][0], "id": 2, "stable": release("1.1.0", 2, "c" * 64)}
    )
    assert assign(plan, 1, facts()).version == "1.1.0"  # type: ignore[union-attr]
    plan["deployments"][0]["priority"] = 5
    assert assign(plan, 1, facts()).version == "1.0.0"  # type: ignore[union-attr]


def test_a_device_the_target_does_not_fit_keeps_the_stable_release() -> None:
    plan = make_plan(100, target=release("2.0.0", 2, "b" * 64, providers=["cuda"]))
    found = assign(plan, 1, facts())
    assert found is not None
    assert (found.version, found.is_target, found.cohort) == ("1.0.0", False, "stable")


def test_a_quarantined_target_is_not_offered() -> None:
    found = assign(make_plan(100), 1, facts(quarantined=frozenset({"b" * 64})))
    assert found is not None and found.version == "1.0.0"


def test_a_pin_holds_a_device_at_the_stable_release() -> None:
    found = assign(make_plan(100), 1, facts(pin="a" * 64))
    assert found is not None and (found.version, found.is_target) == ("1.0.0", False)


def test_nothing_is_assigned_without_a_matching_deployment() -> None:
    assert assign(make_plan(selector={"site": ["x"]}), 1, facts()) is None


@given(st.integers(0, 2**40), st.integers(0, 2**20), st.integers(0, 2**20))
def test_the_counter_rises_with_the_plan_and_with_the_device(
    counter: int, generation: int, more: int
) -> None:
    first = assign(make_plan(), counter, facts(generation=generation))
    later = assign(make_plan(), counter + 1, facts(generation=generation + more))
    assert first is not None and later is not None
    assert later.counter > first.counter


@given(ids, st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1)))
def test_an_assignment_is_renewed_before_it_expires(device_id: str, naive: datetime) -> None:
    now = naive.replace(tzinfo=UTC)
    issued = issue_period(device_id, now)
    assert issued <= now < issued + LIFETIME / 2 + timedelta(seconds=1)


def test_the_etag_ignores_the_counter_and_changes_with_the_release_and_the_renewal() -> None:
    issued = datetime(2026, 1, 1, tzinfo=UTC)
    one, same = assign(make_plan(), 1, facts()), assign(make_plan(), 9, facts())
    other = assign(make_plan(100), 9, facts())
    assert one and same and other
    assert etag_of(one, issued) == etag_of(same, issued)
    assert etag_of(one, issued) != etag_of(other, issued)
    assert etag_of(one, issued) != etag_of(one, issued + timedelta(days=4))


def test_the_payload_says_what_the_protocol_lists() -> None:
    found = assign(make_plan(100), 42, facts("edge-001"))
    assert found is not None
    payload = assignment_payload(found, "edge-001", datetime(2026, 1, 1, tzinfo=UTC))
    assert payload == {
        "schema": "aviary.assignment/1",
        "assignment_id": "digits.42.bbbbbbbbbbbb",
        "device_id": "edge-001",
        "model": "digits",
        "manifest_sha256": "b" * 64,
        "counter": 42,
        "floor_sequence": 1,
        "action": "install",
        "issued_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-08T00:00:00Z",
    }
