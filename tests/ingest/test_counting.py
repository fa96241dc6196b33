"""Records in columns: checked at once as one by one, packed, and counted at once as one by one."""

import json
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import records
from ingest.columns import make_columns, pack_columns, unpack_columns
from ingest.rules import bins
from ingest.rules.counting import Batch, CellKey, FeatureBins, count_batches
from ingest.rules.windows import WindowCounts, merge_counts

NOW = 1_800_000_000.0
RELEASES = [
    records.Release("digits", "1.0.0", 1, 11, 5, labels=10, features=2),
    records.Release("digits", "1.1.0", 2, None, 5, labels=10, features=None),
    records.Release("free", "3", 3, 31, 6, labels=0, features=None),
]
KNOWN = {(release.model, release.version): release for release in RELEASES}
EDGES = (np.array([0.2, 0.4, 0.6]), np.array([0.5]))
FEATURES = {(1, 11): FeatureBins(("mean@a", "std@a"), EDGES)}

ordinary = st.fixed_dictionaries(
    {
        "timestamp": st.one_of(
            st.floats(NOW - 8 * 86_400, NOW + 1200), st.just("2027-01-15T07:00:00Z")
        ),
        "latency_ms": st.one_of(
            st.floats(0, 1e7, exclude_min=False), st.sampled_from([0.0, 0.001, 1.0, 86_400_000.0])
        ),
        "confidence": st.floats(0, 1),
        "class_id": st.integers(0, 9),
    },
    optional={
        "provider": st.sampled_from(["cpu", "cuda", ""]),
        "error": st.sampled_from(["non_finite", "oom", "", None]),
        "features": st.lists(st.floats(-1, 2), min_size=2, max_size=2),
        "seq": st.integers(0, 9),
        "request_hash": st.text(max_size=3),
        "is_counted": st.booleans(),
    },
)
odd = st.fixed_dictionaries(
    {},
    optional={
        "confidence": st.sampled_from([None, 1.5, -0.1, "high"]),
        "class_id": st.sampled_from([None, -1, 10, 2**31]),
        "latency_ms": st.sampled_from([-1, 1e9, 86_400_001]),
        "features": st.sampled_from([[], [1.0], [1e39, 0.0], [0.1, 0.2, 0.3]]),
        "record_id": st.sampled_from(["a", "b", 1]),
        "timestamp": st.sampled_from(["soon", -5, 1e200, 0]),
        "error": st.sampled_from(["oom", "a\0"]),
    },
)
named = st.sampled_from(RELEASES[:2]).map(
    lambda release: {"model": release.model, "model_version": release.version}
)


def decode(rows):
    return records.decode_batch(json.dumps({"records": rows}).encode(), 5000)


@settings(max_examples=60)
@given(st.lists(st.builds(lambda *parts: {k: v for p in parts for k, v in p.items()},
                          named, ordinary, st.one_of(st.just({}), odd)), max_size=5))  # fmt: skip
def test_a_look_at_all_records_finds_what_a_look_at_each_finds(rows):
    batch = decode(rows)
    at_once = records.check_batch(batch, KNOWN, NOW)
    one_by_one = records.check_batch(
        records.RawBatch(None, "b", batch.records, is_whole=False), KNOWN, NOW
    )
    assert at_once.rejected == one_by_one.rejected
    assert at_once.duplicates == one_by_one.duplicates
    assert _plain(at_once.columns) == _plain(one_by_one.columns)


def _plain(columns):
    """By value, the releases spelled out: their order is no promise."""
    return {
        "release": [columns.releases[number] for number in columns.release],
        **{
            name: [str(value) for value in getattr(columns, name)]
            for name in ("at", "flags", "latency_ms", "confidence", "class_id", "features")
        },
        "error": [columns.errors[number] for number in columns.error],
        "widths": columns.widths.tolist(),
        "others": columns.others,
    }


def columns_of(rows):
    return records.check_batch(decode(rows), KNOWN, NOW).columns


def count_slowly(batches, seconds):
    """Record by record, with the bins that speak of one value."""
    cells = {}
    for batch in batches:
        part, at = batch.columns, 0
        for index in range(len(part)):
            width = int(part.widths[index])
            features, at = part.features[at : at + width], at + width
            if part.flags[index] & (2 | 4):
                continue
            version, variant, model, labels = part.releases[part.release[index]]
            start = int(part.at[index] // seconds) * seconds
            key = CellKey(
                batch.device_id, version, variant, batch.cohorts.get(model, "stable"), start
            )
            counts = WindowCounts(n=1, restamped=int(part.flags[index] & 1))
            error = part.errors[part.error[index]]
            if error:
                counts.errors, counts.nonfinite = 1, int(error == "non_finite")
            else:
                latency, confidence = float(part.latency_ms[index]), float(part.confidence[index])
                counts.latency_n, counts.confidence_n = 1, 1
                counts.latency_sum, counts.latency_sum_squares = latency, latency**2
                counts.confidence_sum, counts.confidence_sum_squares = confidence, confidence**2
                counts.latency = bins.latency_counts([latency])
                counts.confidence = bins.confidence_counts([confidence])
                counts.classes = bins.class_counts([int(part.class_id[index])], labels)
                found = FEATURES.get((version, variant))
                if found and width == len(found.names):
                    counts.features = {
                        name: bins.feature_counts([value], edges.tolist())
                        for name, edges, value in zip(
                            found.names, found.edges, features, strict=True
                        )
                    }
            cells[key] = merge_counts(cells.get(key, WindowCounts()), counts)
    return cells


batches = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.lists(st.builds(lambda a, b: {**a, **b}, named, ordinary), min_size=1, max_size=6),
        st.sampled_from(["canary", "control"]),
    ),
    max_size=4,
)


@settings(max_examples=60)
@given(batches, st.sampled_from([60, 3600]))
def test_counting_at_once_is_counting_one_by_one(sent, seconds):
    given_batches = [Batch(device, columns_of(rows), {5: cohort}) for device, rows, cohort in sent]
    fast = count_batches(given_batches, seconds=seconds, features=FEATURES)
    slow = count_slowly(given_batches, seconds)
    assert fast.keys() == slow.keys()
    for key, counts in slow.items():
        assert _rounded(fast[key]) == _rounded(counts)


def _rounded(counts):
    """Sums of floats depend on their order in the last digits."""
    return {
        name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
        for name, value in vars(counts).items()
    }


@given(batches)
def test_what_is_packed_comes_out_again(sent):
    for _, rows, cohort in sent:
        columns = columns_of(rows)
        again, cohorts = unpack_columns(pack_columns(columns, {5: cohort}))
        assert _plain(again) == _plain(columns) and cohorts == {5: cohort}


def test_a_batch_of_the_release_before_is_read():
    old = {
        "schema": 1,
        "releases": [[1, 11, 5, 10]],
        "cohorts": {"5": "canary"},
        "columns": {
            "release": [0, 0], "at": [NOW, NOW - 1], "restamped": [True, False],
            "too_old": [False, True], "latency_ms": [1.5, 2.5], "confidence": [0.5, None],
            "class_id": [3, None], "features": [[0.1, 0.2], None], "error": [None, "oom"],
            "provider": ["cpu", None], "request_hash": [None, None], "record_id": [None, "r"],
            "seq": [1, 2],
        },
    }  # fmt: skip
    columns, cohorts = unpack_columns(zlib.compress(msgspec.msgpack.encode(old)))
    assert cohorts == {5: "canary"} and columns.releases == ((1, 11, 5, 10),)
    assert columns.flags.tolist() == [1, 2] and columns.class_id.tolist() == [3, -1]
    assert [columns.errors[number] for number in columns.error] == ["", "oom"]
    assert columns.features.tolist() == [0.1, 0.2] and columns.widths.tolist() == [2, 0]
    assert columns.others == {
        "provider": ["cpu", None], "record_id": [None, "r"], "seq": [1, 2]
    }  # fmt: skip


def test_damaged_columns_are_an_error_and_nothing_else():
    whole = pack_columns(columns_of([{**ROW}]), {})
    for payload in (b"junk", whole[:-3], whole[:10], b"\x28\xb5\x2f\xfd" + b"\0" * 20):
        with pytest.raises(ValueError, match="columns"):
            unpack_columns(payload)


ROW = {
    "timestamp": NOW, "latency_ms": 1.0, "confidence": 0.5, "class_id": 1,
    "model": "digits", "model_version": "1.0.0",
}  # fmt: skip


@pytest.mark.parametrize("latency_ms", [float("nan"), float("inf"), 1e200, -1.0])
def test_what_no_check_lets_through_is_never_counted(latency_ms):
    record = records.Record(
        timestamp=NOW, latency_ms=latency_ms, model_version="1", confidence=0.5, class_id=1
    )
    columns = make_columns(records.fields_of([record]), [(1, 11, 5, 10)], [0], [NOW], [0])
    with pytest.raises(ValueError, match="latency_ms"):
        count_batches([Batch(1, columns, {})], seconds=60, features={})
