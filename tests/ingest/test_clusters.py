"""Counts of many devices in few rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.rules.clustering import measure_clustering
from ingest.rules.clusters import (
    GROUPS,
    KNOWN,
    clusters_of,
    clusters_of_rows,
    gather_table,
    keep_known,
    merge_clusters,
    pick_devices,
    unpack,
)
from ingest.rules.fleet_judgement import Policy, judge_slice, settle_levels
from ingest.rules.windows import WindowCounts, sum_counts
from tests.factories.ingest import make_profile


def one(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 50))
    return WindowCounts(
        n=n,
        errors=int(rng.integers(0, n)),
        latency_n=n,
        latency_sum=float(n),
        classes=rng.multinomial(n, [0.1] * 10).tolist(),
        confidence=rng.multinomial(n, [1 / 64] * 64).tolist() if seed % 3 else [],
        latency={int(rng.integers(-5, 60)): n},
        features={"mean@a": [n, 0, seed % 2]} if seed % 2 else {},
    )


def told(clusters):
    """What must be the same however it was put together."""
    rows = [(int(pk), row) for pk, row in zip(clusters.ids, clusters.rows(), strict=True)]
    plain = []
    for pk, row in rows:
        for name, values in row.features.items():
            row.features[name] = [*values] if any(values) else []
        row.features = {name: values for name, values in row.features.items() if values}
        row.confidence = row.confidence if any(row.confidence) else []
        plain.append((pk, row))
    return clusters.is_grouped, sorted(clusters.known.tolist()), plain


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(
        st.dictionaries(st.integers(1, 200), st.integers(0, 500), min_size=1, max_size=90),
        min_size=1,
        max_size=5,
    ),
    order=st.randoms(use_true_random=False),
)
def test_order_and_grouping_of_merges_do_not_matter(parts, order):
    built = [clusters_of({pk: one(seed) for pk, seed in part.items()}) for part in parts]
    straight = merge_clusters(built)
    order.shuffle(built)
    left = built[0]
    for part in built[1:]:
        left = merge_clusters([unpack(left.pack()), part])
    assert told(left) == told(straight)
    devices = {pk for part in parts for pk in part}
    assert straight.is_grouped == (len(devices) > GROUPS) and straight.devices == len(devices)
    expected = sum_counts(one(seed) for part in parts for seed in part.values())
    assert sum_counts(straight.rows()).n == expected.n == straight.total("n")
    assert straight.latency_counts() == {k: v for k, v in expected.latency.items() if v}


def test_nothing_merges_to_nothing():
    nothing = merge_clusters([])
    assert len(nothing.ids) == 0 and nothing.devices == 0 and nothing.total("n") == 0
    assert told(unpack(nothing.pack())) == told(nothing)


def test_differences_of_revised_counts_may_be_below_zero():
    first, less = clusters_of({7: WindowCounts(n=5, classes=[5])}), WindowCounts(n=-2, classes=[-2])
    both = merge_clusters([first, unpack(clusters_of({7: less}).pack())])
    assert both.rows() == [WindowCounts(n=3, classes=[3])]


@pytest.mark.parametrize("count", [1, 64, 1_000, 20_000, 1_000_000])
def test_the_number_of_devices_is_exact_while_small_and_near_after(count):
    known = keep_known(np.arange(1, count + 1))
    empty = clusters_of({1: WindowCounts(n=1)})
    found = type(empty)(empty.ids, True, known, empty.sums, empty.parts).devices
    assert found == count if count < KNOWN else abs(found / count - 1) < 0.1


def test_the_same_devices_are_picked_whatever_the_cells():
    ids = range(1, 3_000)
    counts = WindowCounts(n=1)
    whole = {"{}": clusters_of(dict.fromkeys(ids, counts))}
    halves = {
        name: clusters_of({pk: counts for pk in ids if pk % 2 == rest})
        for rest, name in enumerate(("even", "odd"))
    }
    assert set(pick_devices(whole, 500)) == set(pick_devices(halves, 500))


def test_few_devices_are_judged_as_one_by_one():
    devices = {pk: one(pk) for pk in range(1, 41)}
    policy = Policy(min_devices=3)
    by_device = judge_slice("all", make_profile(), "@a", list(devices.values()), policy)
    by_cluster = judge_slice("all", make_profile(), "@a", clusters_of(devices), policy)
    assert settle_levels(by_device) == settle_levels(by_cluster)


def test_groups_tell_the_design_effect_that_devices_tell():
    rng = np.random.default_rng(5)
    for devices in (200, 2_000):
        found = []
        for _ in range(20):
            mixes = rng.dirichlet([2.0] * 10, size=devices)
            table = np.array([rng.multinomial(30, mix) for mix in mixes])
            by_device, by_group = (measure_clustering(one) for one in (table, gather_table(table)))
            found.append(by_group.effect / by_device.effect)
        assert 0.9 < np.mean(found) < 1.1


def test_what_devices_are_needed_for_counts_devices_and_not_groups():
    devices = {pk: one(pk) for pk in range(1, 201)}
    clusters = clusters_of(devices)
    assert len(clusters.ids) <= GROUPS
    for least, status in ((150, True), (250, False)):
        judged = judge_slice("all", make_profile(), "@a", clusters, Policy(min_devices=least))
        error_rate = next(item for item in judged if item.metric == "error_rate")
        assert error_rate.devices == 200 and error_rate.is_enough is status


def test_one_metric_alone_is_what_it_is_among_all():
    rows = clusters_of_rows([one(seed) for seed in range(30)])
    judged = {
        item.metric: item for item in judge_slice("all", make_profile(), "@a", rows, Policy())
    }
    for metric, item in judged.items():
        alone = judge_slice("all", make_profile(), "@a", rows, Policy(), only=metric)
        assert alone == [item]
