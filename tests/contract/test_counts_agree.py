"""What a device counts of its records is what the server counts of them."""

import json
import math

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.observation.summaries import merge_counts
from edge_agent.observation.tally import Scale, count_record, to_wire
from ingest.records import Release, check_batch, decode_batch
from ingest.rules.counting import Batch, FeatureBins, count_batches
from ingest.summaries import Summary, find_problem, to_window_counts

EDGES = [number / 8 for number in range(1, 8)]
LABELS = 4
START = 1_800_000_000 // 3600 * 3600
BASELINE = "c" * 64
SCALE = Scale(LABELS, BASELINE, (("input_mean", EDGES), ("input_std", EDGES)))
RELEASE = Release("digits", "1.0.0", 1, 2, 3, LABELS, 2)
numbers = st.floats(-2, 2, allow_nan=False, width=32)


@st.composite
def records(draw):
    record = {
        "timestamp": START + draw(st.floats(0, 3599)),
        "latency_ms": draw(st.floats(0, 86_400_000.0)),
        "model": "digits",
        "model_version": "1.0.0",
    }
    kind = draw(st.sampled_from(["good", "good", "good", "failed", "non_finite"]))
    if kind == "good":
        record["class_id"] = draw(st.integers(0, LABELS - 1))
        record["confidence"] = draw(st.floats(0, 1))
    else:
        record["error"] = kind
    if draw(st.booleans()):
        record["features"] = [draw(numbers), draw(numbers)]
    return record


def count_on_server(rows):
    body = json.dumps({"device_id": "edge-1", "batch_id": "b", "records": rows}).encode()
    key = ("digits", "1.0.0")
    checked = check_batch(decode_batch(body, 5_000), {key: RELEASE}, START + 3600)
    assert not checked.rejected
    suffix = f"@{BASELINE[:12]}"
    names = tuple(name + suffix for name, _ in SCALE.features)
    bins = FeatureBins(names, tuple(np.asarray(edges) for _, edges in SCALE.features))
    cells = count_batches([Batch(1, checked.columns, {})], seconds=3600, features={(1, 2): bins})
    return next(iter(cells.values()), None)


def summarise(rows, parts):
    """By way of the device: in parts that are added up, then over the wire."""
    total = {}
    for at in range(0, len(rows), parts):
        counts = {}
        for row in rows[at : at + parts]:
            count_record(counts, row, SCALE)
        total = merge_counts(json.loads(json.dumps(total)), counts)
    widths = {name: len(edges) + 1 for name, edges in SCALE.features}
    summary = {
        "model": "digits", "model_version": "1.0.0", "start": START, "seconds": 3600,
        "revision": 1, "baseline": BASELINE, "counts": to_wire(total, widths),
    }  # fmt: skip
    told = msgspec.json.decode(json.dumps(summary).encode(), type=Summary)
    assert find_problem(told, RELEASE, 3600, START + 3600) == ""
    return to_window_counts(told, LABELS)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(records(), min_size=1, max_size=40), parts=st.integers(1, 40))
def test_the_device_counts_what_the_server_counts(rows, parts):
    ours, theirs = summarise(rows, parts), count_on_server(rows)
    for name, value in vars(theirs).items():
        found = getattr(ours, name)
        if isinstance(value, float):
            assert math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-9), name
        elif isinstance(value, list):
            assert [*found, *[0] * (len(value) - len(found))] == (value or found), name
        elif name == "features":
            assert {k: v for k, v in found.items() if any(v)} == value
        else:
            assert found == value, name


def test_a_record_that_is_counted_already_is_kept_and_counted_in_no_window():
    good = {
        "timestamp": START, "latency_ms": 1.0, "model": "digits", "model_version": "1.0.0",
        "class_id": 1, "confidence": 0.5,
    }  # fmt: skip
    assert count_on_server([{**good, "is_counted": True}]) is None
    assert count_on_server([{**good, "is_counted": True}, good]).n == 1
    # One without a class sends the batch through the rules that look at each record by itself.
    odd = {**good, "class_id": None, "error": "failed"}
    rows = [{**good, "is_counted": True}, odd, {**odd, "is_counted": True}, {**odd, "error": ""}]
    body = json.dumps({"batch_id": "b", "records": rows}).encode()
    releases = {("digits", "1.0.0"): RELEASE}
    checked = check_batch(decode_batch(body, 5_000), releases, START + 3600)
    assert len(checked.rejected) == 1 and (checked.columns.flags == [4, 0, 4]).all()
    (found,) = count_batches([Batch(1, checked.columns, {})], seconds=3600, features={}).values()
    assert (found.n, found.errors) == (1, 1)
