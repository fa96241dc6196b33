"""What fleets do to a judgement: rare classes, constants, few devices, devices that fail."""

import numpy as np
import pytest

from ingest.rules.binning import plan_bins
from ingest.rules.bins import feature_counts
from ingest.rules.changed_devices import DeviceChange, DeviceStory, find_changed_devices
from ingest.rules.clustering import measure_clustering
from ingest.rules.distances import bin_positions
from ingest.rules.fleet_judgement import (
    Policy,
    judge_changed_devices,
    judge_psi,
    judge_slice,
    settle_levels,
)
from ingest.rules.windows import WindowCounts
from registry.reading.inputs import describe_rows
from registry.validation.profile import feature_profile
from tests.factories.ingest import make_profile

POLICY = Policy(min_devices=3)


def judge(reference, per_device, policy=POLICY, **over):
    item = judge_psi("prediction_psi", reference, per_device, policy, is_ordered=False, **over)
    return settle_levels([item])[0]


@pytest.mark.parametrize(
    "reference",
    [[3000, 0, 0, 0, 0], [2992, 8, 0, 0, 0], [9951, 49, 0, 0, 0], [9000, 1000, 0, 0, 0]],
)
def test_half_the_answers_moving_to_a_rare_or_new_class_is_critical(reference):
    assert judge(reference, [[600, 600, 0, 0, 0]] * 30).status == "critical"


def test_a_model_that_only_ever_answers_one_class_is_healthy_while_it_does():
    assert judge([3000, 0, 0, 0, 0], [[400, 0, 0, 0, 0]] * 30).status == "healthy"


@pytest.mark.parametrize("classes", [2, 20, 21, 200, 201, 1000])
def test_a_collapse_onto_one_class_is_critical_at_any_number_of_classes(classes):
    collapsed = [500] + [0] * classes
    assert judge([1000] * classes + [0], [collapsed] * 200).status == "critical"


def test_rare_classes_collapsing_onto_one_of_them_is_critical():
    reference = [6000] + [8] * 500 + [0]
    assert judge(reference, [[600, 400, *[0] * 500]] * 100).status == "critical"


def test_one_device_in_an_odd_place_gives_no_class_a_bin_of_its_own():
    rng = np.random.default_rng(3)
    rows = [[*rng.multinomial(200, [0.1] * 10).tolist(), 0] for _ in range(30)]
    rows[0] = [0] * 10 + [200]
    found = judge([1000] * 10 + [0], rows)
    assert found.status == "healthy", (found.value, found.threshold)


def test_rare_classes_are_put_into_groups_and_the_judgement_says_so():
    rng = np.random.default_rng(4)
    shares = np.full(300, 1 / 300)
    rows = [[*rng.multinomial(50, shares).tolist(), 0] for _ in range(40)]
    found = judge([*rng.multinomial(200, shares).tolist(), 0], rows)
    assert 2 <= found.bins <= 20
    assert "classes are judged in groups" in found.details["merged"]
    assert found.status == "healthy"


def test_no_value_is_given_where_there_are_fewer_than_two_bins():
    found = judge([3, 2, 0], [[1, 1, 0], [1, 0, 0]], Policy(min_devices=2))
    assert found.status == "insufficient" and found.value is None
    assert "fewer than two bins" in found.details["reason"]


def test_a_constant_feature_is_healthy_as_devices_describe_it_and_critical_when_it_moves():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(600, 64))
    inputs -= inputs.mean(1, keepdims=True)
    inputs = (inputs / inputs.std(1, keepdims=True)).astype(np.float32)
    profile = feature_profile("input_std", describe_rows(inputs)[:, 1])
    rows = [inputs[rng.integers(0, 600, 200)] for _ in range(30)]
    same = [feature_counts([float(row.std()) for row in part], profile["edges"]) for part in rows]
    moved = [feature_counts([9.0] * 200, profile["edges"])] * 30
    statuses = []
    for per_device in (same, moved):
        item = judge_psi(
            "feature_psi:input_std",
            profile["counts"],
            per_device,
            POLICY,
            positions=bin_positions(profile["edges"]),
        )
        statuses.append(settle_levels([item])[0].status)
    assert statuses == ["healthy", "critical"]


@pytest.mark.parametrize("devices", [20, 40, 200])
def test_half_the_fleet_failing_every_record_is_critical_and_never_insufficient(devices):
    fleet = [
        WindowCounts(n=1000, errors=1000 if index % 2 else 0, classes=[100] * 10 + [0])
        for index in range(devices)
    ]
    judged = settle_levels(judge_slice("all", make_profile(), "", fleet, Policy()))
    found = {item.metric: item for item in judged}["error_rate"]
    assert found.status == "critical" and found.n_eff < 0.1 * found.n


def test_half_the_fleet_collapsing_is_found_although_it_makes_records_worth_little():
    rows = [[1000, *[0] * 10] if index % 2 else [100] * 10 + [0] for index in range(20)]
    assert judge([1000] * 10 + [0], rows, Policy()).status in ("warning", "critical")


def test_a_reference_of_clustered_devices_carries_its_own_error():
    rng = np.random.default_rng(5)
    mixes = rng.dirichlet(np.full(10, 0.3), size=20)
    groups = [[*rng.multinomial(500, mix).tolist(), 0] for mix in mixes]
    reference = np.sum(groups, axis=0).tolist()
    rows = [
        [*rng.multinomial(500, mix).tolist(), 0]
        for mix in rng.dirichlet(np.full(10, 0.3), size=200)
    ]
    alone = judge(reference, rows, Policy())
    known = judge(reference, rows, Policy(), reference_groups=groups)
    assert known.status not in ("warning", "critical")
    assert known.threshold > 1.5 * alone.threshold


def test_a_finding_lies_above_its_line_and_nothing_else_does():
    rng = np.random.default_rng(6)
    judged = []
    for tilt in np.linspace(0, 1, 12):
        shares = np.exp(tilt * np.linspace(-1, 1, 10))
        rows = [[*rng.multinomial(40, shares / shares.sum()).tolist(), 0] for _ in range(30)]
        judged.append(judge_psi("prediction_psi", [500] * 10 + [0], rows, POLICY, is_ordered=False))
    for item in settle_levels(judged):
        assert (item.value > item.threshold) == (item.status in ("warning", "critical"))
        assert item.threshold_critical >= item.threshold


def test_the_judgement_says_what_it_can_find_and_what_would_find_more():
    rng = np.random.default_rng(7)
    few = [[*rng.multinomial(10, [0.1] * 10).tolist(), 0] for _ in range(20)]
    power = judge([5000] * 10 + [0], few, Policy()).details["power"]
    assert power["found_psi"] > power["critical_psi"] == 0.25
    assert 200 < power["records_for_critical"] < 1000
    many = [[*rng.multinomial(500, [0.1] * 10).tolist(), 0] for _ in range(20)]
    power = judge([5000] * 10 + [0], many, Policy()).details["power"]
    assert power["found_psi"] < 0.25 and power["records_for_critical"] is None


def test_unevenly_clustered_bins_are_seen():
    rng = np.random.default_rng(8)
    alike = rng.multinomial(200, [0.1] * 10, size=60)
    odd = alike.copy()
    odd[:, 0] += (400 * (rng.random(60) < 0.1)).astype(int)
    assert measure_clustering(odd).unevenness > measure_clustering(alike).unevenness
    assert measure_clustering(odd).by_bin[0] > 10


def test_a_plan_loses_no_bin_and_numbers_them_without_gaps():
    rng = np.random.default_rng(9)
    for _ in range(200):
        fine = int(rng.integers(1, 70))
        a = rng.poisson(rng.gamma(0.3, 40, fine)).astype(float)
        b = rng.poisson(rng.gamma(0.3, 40, fine)).astype(float)
        for is_ordered in (True, False):
            plan = plan_bins(a, b, is_ordered=is_ordered)
            assert len(plan.plan) == fine
            assert sorted(set(plan.plan)) == list(range(plan.width))


def stories(rng, shares, collapsed, days=3, n=40, **now):
    found = []
    for index, mix in enumerate(shares):

        def day(mix=mix):
            return WindowCounts(n=n, classes=[*rng.multinomial(n, mix).tolist(), 0])

        current = day()
        if index < collapsed:
            current = WindowCounts(n=n, classes=[n, *[0] * 10])
        for name, value in now.items():
            setattr(current, name, value)
        found.append(DeviceStory(current, [day() for _ in range(days)]))
    return found


def changes_of(told):
    return find_changed_devices(told, error_limit=0.01, latency_ratio=1.25)


def test_a_twentieth_of_the_devices_collapsing_is_found_and_named():
    rng = np.random.default_rng(10)
    changes = changes_of(stories(rng, rng.dirichlet(np.ones(10), size=200), collapsed=10))
    judged = settle_levels([judge_changed_devices(changes, Policy())])[0]
    assert judged.status in ("warning", "critical")
    assert judged.details["by_metric"] == {"prediction_psi": judged.details["changed"]}
    assert sum(change.is_changed for change in changes[10:]) == 0


def test_devices_that_always_differed_have_not_changed():
    rng = np.random.default_rng(11)
    changes = changes_of(stories(rng, rng.dirichlet(np.full(10, 0.2), size=100), collapsed=0))
    judged = settle_levels([judge_changed_devices(changes, Policy())])[0]
    assert judged.details["changed"] == 0 and judged.status == "healthy"


def test_devices_whose_days_differ_have_not_changed():
    rng = np.random.default_rng(12)
    told = []
    for mix in rng.dirichlet(np.ones(10), size=100):
        days = [
            WindowCounts(n=400, classes=[*rng.multinomial(400, rng.dirichlet(mix * 10 + 0.01)), 0])
            for _ in range(4)
        ]
        told.append(DeviceStory(days[0], days[1:]))
    assert sum(change.is_changed for change in changes_of(told)) <= 2


def test_a_slower_and_a_less_sure_device_is_found_by_its_own_past():
    told = []
    for index in range(40):
        usual = WindowCounts(
            n=50, latency_n=50, latency={60 + index: 50}, confidence=[0] * 60 + [50, 0, 0, 0]
        )
        now = WindowCounts(
            n=50,
            latency_n=50,
            latency={60 + index + (33 if index < 4 else 0): 50},
            confidence=[0] * 20 + [50] + [0] * 43 if index in (4, 5) else usual.confidence,
        )
        told.append(DeviceStory(now, [usual, usual]))
    changes = changes_of(told)
    assert [change.is_changed for change in changes] == [index < 6 for index in range(40)]
    assert changes[0].metrics == ("latency_p95_ratio",)
    assert changes[4].metrics == ("confidence_drop",)


def test_devices_without_a_past_are_only_tested_for_failures():
    told = [DeviceStory(WindowCounts(n=50, errors=50 if i < 3 else 0)) for i in range(30)]
    changes = changes_of(told)
    assert [c.is_changed for c in changes] == [i < 3 for i in range(30)]
    assert changes_of([]) == []
    assert judge_changed_devices([DeviceChange()], Policy()).details["reason"]


def test_one_changed_device_is_no_change_of_the_fleet():
    one = DeviceChange(1e-9, True, ("prediction_psi",))
    few = settle_levels([judge_changed_devices([one], Policy(min_devices=3))])[0]
    assert few.status == "insufficient" and few.value == 1.0
    two = settle_levels([judge_changed_devices([one, one, DeviceChange(0.5)], POLICY)])[0]
    assert two.status in ("warning", "critical")


def test_a_release_without_classes_is_judged_by_its_numbers_alone() -> None:
    edges = [float(n) for n in range(1, 64)]
    profile = {
        "n": 6400,
        "has_classes": False,
        "has_confidence": False,
        "class": {"counts": [0]},
        "confidence": {"counts": [0] * 64},
        "features": [{"name": "value", "edges": edges, "counts": [100] * 64}],
    }
    devices = [
        WindowCounts(n=200, latency_n=200, features={"value": [200, *[0] * 63]}) for _ in range(30)
    ]
    judged = {item.metric: item for item in judge_slice("all", profile, "", devices, Policy())}
    assert not {"prediction_psi", "confidence_psi", "confidence_drop"} & set(judged)
    assert settle_levels([judged["feature_psi:value"]])[0].status == "critical"
