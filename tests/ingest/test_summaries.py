"""Counts that devices made: late, repeated and revised ones are counted once."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from ingest.models import InboxBatch, Summary, Window
from ingest.rules.revisions import difference
from ingest.rules.windows import WindowCounts, merge_counts
from ingest.services import summaries as service
from ingest.services.aggregation import aggregate_batches
from ingest.services.summaries import count_summaries
from registry.models import Baseline
from tests.factories.ingest import make_device, make_record, make_release
from tests.ingest.credentials import issue_token
from tests.ingest.test_intake_lane import answers_of, by_lane, by_view, call  # noqa: F401

pytestmark = pytest.mark.django_db
SECONDS = 3600


@pytest.fixture
def variant():
    return make_release()


@pytest.fixture
def token(variant):
    return issue_token(make_device(variant=variant))


def window(ago=0):
    return int(timezone.now().timestamp() // SECONDS - ago) * SECONDS


def counts(n=10, **over):
    found = {
        "n": n, "errors": 0, "latency_n": n, "latency_sum": 2.0 * n,
        "latency_sum_squares": 4.0 * n, "confidence_n": n, "confidence_sum": 0.9 * n,
        "confidence_sum_squares": 0.81 * n, "confidence": [0] * 57 + [n],
        "classes": [0, 0, 0, n], "latency": {"14": n},
    }  # fmt: skip
    return {**found, **over}


def told(revision=1, n=10, start=None, **over):
    return {
        "model_version": "1.0.0", "start": window() if start is None else start,
        "seconds": SECONDS, "revision": revision, "counts": counts(n), **over,
    }  # fmt: skip


def send(token, *items, source="s1", way=by_lane):
    ((status, _, body),) = way([call(token, {"source": source, "summaries": list(items)},
                                     path="/api/summaries")])  # fmt: skip
    assert status == 200, body
    return body


def count():
    while count_summaries():
        pass
    return {row.start.timestamp(): row.n for row in Window.objects.all()}


def test_the_newest_revision_of_each_window_is_counted_once(token, answers_of):  # noqa: F811
    now, before = window(), window(30)
    steps = [
        ([told(1, 10), told(4, 7, before)], (2, 0), {now: 10, before: 7}),
        ([told(1, 10)], (0, 1), {now: 10, before: 7}),
        ([told(3, 25)], (1, 0), {now: 25, before: 7}),
        ([told(2, 20), told(3, 25)], (0, 2), {now: 25, before: 7}),
        ([told(6, 9, before), told(5, 8, before)], (1, 1), {now: 25, before: 9}),
    ]
    for items, (accepted, duplicates), expected in steps:
        body = send(token, *items, way=answers_of)
        assert (body["accepted"], body["duplicates"]) == (accepted, duplicates)
        assert count() == expected
    assert Summary.objects.count() == 2 and body["window_s"] == SECONDS


def test_another_source_of_the_same_device_is_added(token):
    send(token, told(5, 10))
    send(token, told(1, 3), source="after the card was wiped")
    assert count() == {window(): 13}


def test_counts_of_a_device_are_those_the_server_makes_of_its_records(token):
    records = [make_record(confidence=0.25, class_id=4), make_record(), make_record(),
               make_record(error="non_finite", confidence=None, class_id=None)]  # fmt: skip
    by_lane([call(token, {"records": records})])
    aggregate_batches()
    of_server = Window.objects.get()
    own = {key: value for key, value in of_server.counts.items() if key != "restamped"}
    baseline = Baseline.objects.get().sha256
    own["features"] = {
        name.partition("@")[0]: row for name, row in of_server.counts["features"].items()
    }
    Window.objects.all().delete()
    InboxBatch.objects.all().delete()
    send(token, told(counts=own, baseline=baseline))
    count()
    of_device = Window.objects.get()
    assert of_device.counts == of_server.counts
    assert (of_device.n, of_device.errors) == (of_server.n, of_server.errors) == (4, 1)
    assert (of_device.variant_id, of_device.cohort) == (of_server.variant_id, of_server.cohort)


REJECTED = {
    "an unknown release": ({"model_version": "9.9"}, "9.9"),
    "another length": ({"seconds": 60}, "3600"),
    "a start between windows": ({"start": window() + 1}, "3600"),
    "an old window": ({"start": window(24 * 8)}, "7 days"),
    "no revision": ({"revision": 0}, "revision"),
    "no records": ({"counts": counts(0)}, "n"),
    "more errors than records": ({"counts": counts(errors=11)}, "errors"),
    "more latencies than records": ({"counts": counts(latency_n=11)}, "latencies"),
    "latencies beside the bins": ({"counts": counts(latency={"14": 9})}, "latency"),
    "a latency bin that is none": ({"counts": counts(latency={"9999": 10})}, "bins"),
    "a bin below zero": ({"counts": counts(latency={"14": 11, "15": -1})}, "latency"),
    "more classes than labels": ({"counts": counts(classes=[0] * 12)}, "classes"),
    "more predictions than records": ({"counts": counts(classes=[11])}, "classes"),
    "a sum beyond its records": ({"counts": counts(confidence_sum=11.0)}, "confidence_sum"),
    "a sum without end": ({"counts": counts(latency_sum=1e300)}, "latency_sum"),
    "a baseline that is no digest": ({"baseline": "x"}, "baseline"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_bad_summary_is_rejected_alone_with_index_and_reason(token, name):
    over, word = REJECTED[name]
    body = send(token, told(), told(**over), 7, told(1, 5, window(1)))
    assert [item["index"] for item in body["rejected"]] == [1, 2]
    assert word in body["rejected"][0]["reason"]
    assert body["accepted"] == 2 and count() == {window(): 10, window(1): 5}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"hello", 422), ({"summaries": []}, 422), ({"source": "", "summaries": []}, 422),
        ({"source": "a\0", "summaries": []}, 422), ({"source": "a", "summaries": [{}] * 501}, 413),
        ({"source": "a", "summaries": [], "device_id": "other"}, 403),
    ],
)  # fmt: skip
def test_a_refused_body_is_refused_alike_by_both_ways(token, body, status):
    refused = call(token, body, path="/api/summaries")
    (view,), (lane,) = by_view([refused]), by_lane([refused])
    assert (view[0], view[2]) == (lane[0], lane[2]) and view[0] == status
    assert not Summary.objects.exists()


def test_counts_of_classes_are_refused_where_a_release_has_none(variant, token):
    contract = {"task": "regression", "form": "values", "outputs": {"values": "y"}}
    type(variant.version).objects.filter(pk=variant.version_id).update(contract=contract)
    body = send(token, told())
    assert [row["reason"].split()[0] for row in body["rejected"]] == ["classes"]
    numbers = counts(classes=[], confidence=[], confidence_n=0, confidence_sum=0.0,
                     confidence_sum_squares=0.0)  # fmt: skip
    assert send(token, told(counts=numbers))["accepted"] == 1


def test_a_window_of_a_clock_ahead_is_counted_now(token):
    send(token, told(1, 4, window(-5)))
    send(token, told(2, 6, window(-5)))
    assert count() == {window(): 6}


def test_one_that_cannot_be_counted_holds_up_no_other(token, variant):
    send(token, told(1, 4), told(1, 5, window(1)))
    Summary.objects.filter(told_start=window()).update(counts={"n": "many"})
    assert count() == {window(1): 5}
    assert "Error" in Summary.objects.get(told_start=window()).problem
    send(token, told(2, 6))
    assert count() == {window(): 6, window(1): 5}
    assert Summary.objects.get(told_start=window()).problem == ""


def test_a_group_costs_the_same_however_many_summaries_it_has(variant):
    def group(first, number):
        bodies = {"source": "s", "summaries": [told(1, 3), told(1, 3, window(1))]}
        return [
            call(issue_token(make_device(f"d{index}", variant)), bodies, path="/api/summaries")
            for index in range(first, first + number)
        ]

    one, many = group(0, 1), group(1, 20)
    costs = []
    for calls in (one, many):
        with CaptureQueriesContext(connection) as queries:
            assert all(status == 200 for status, _, _ in by_lane(calls))
        received = len(queries)
        with CaptureQueriesContext(connection) as queries:
            count()
        costs.append((received, len(queries)))
    assert costs[1] <= costs[0] and costs[0][0] <= 12 and costs[0][1] <= 20
    assert sum(Window.objects.values_list("n", flat=True)) == 21 * 6


rows = st.lists(st.integers(0, 5), max_size=4)
any_counts = st.builds(
    WindowCounts,
    n=st.integers(0, 9), confidence=rows, classes=rows,
    latency=st.dictionaries(st.integers(0, 3), st.integers(1, 5)),
    features=st.dictionaries(st.sampled_from("ab"), rows),
)  # fmt: skip


@given(any_counts, any_counts)
def test_an_older_count_with_the_difference_is_the_newer_one(newer, older):
    both = merge_counts(older, difference(newer, older))
    assert _without_zeros(both) == _without_zeros(newer)


def _without_zeros(counts_of):
    """Bins that hold nothing may be there or not."""

    def strip(row):
        return row[: max((i + 1 for i, value in enumerate(row) if value), default=0)]

    return (
        counts_of.n, strip(counts_of.confidence), strip(counts_of.classes),
        {key: value for key, value in counts_of.latency.items() if value},
        {key: strip(row) for key, row in counts_of.features.items() if strip(row)},
    )  # fmt: skip


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 1, 2], [2, 3, 3, 1], [1, 3, 2, 3]])
@pytest.mark.parametrize("is_counted_between", [True, False])
def test_whatever_the_order_the_newest_is_what_is_counted(token, order, is_counted_between):
    for revision in order:
        send(token, told(revision, 10 * revision))
        if is_counted_between:
            count()
    assert count() == {window(): 30}


def test_a_failed_count_leaves_summary_and_window_as_they_were(token, monkeypatch):
    send(token, told(1, 4))

    def fail(added):
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "add_to_windows", fail)
    with pytest.raises(KeyboardInterrupt):
        count_summaries()
    monkeypatch.undo()
    assert Summary.objects.get().is_pending and count() == {window(): 4}


def test_features_stay_comparable_when_a_reference_with_the_same_edges_is_pinned(token, variant):
    first = Baseline.objects.get()
    features = {"input_mean": [10] + [0] * 63}
    counted = told(baseline=first.sha256, counts=counts(features=features))
    send(token, counted)
    count()
    first.is_active = False
    first.save()
    profile = {**first.profile, "n": 7}
    Baseline.objects.create(
        version=variant.version, sha256="f" * 64, profile=profile, source="fleet"
    )
    send(token, {**counted, "revision": 2})
    count()
    (window,) = Window.objects.all()
    rows = {name: sum(row) for name, row in window.counts["features"].items()}
    assert rows == {f"input_mean@{first.sha256[:12]}": 0, f"input_mean@{'f' * 12}": 10}
    other = {**profile, "features": [{**profile["features"][0], "edges": [0.5], "counts": [1, 1]}]}
    Baseline.objects.filter(sha256="f" * 64).update(is_active=False)
    Baseline.objects.create(version=variant.version, sha256="e" * 64, profile=other, source="other")
    send(token, {**counted, "revision": 3})
    count()
    (window,) = Window.objects.all()
    rows = {name: sum(row) for name, row in window.counts["features"].items()}
    assert rows[f"input_mean@{first.sha256[:12]}"] == 10 and f"input_mean@{'e' * 12}" not in rows
