"""The comparison of measured variants and its Pareto front."""

from hypothesis import given
from hypothesis import strategies as st

from compression.report.comparison import (
    COMPARISON_FIELDS,
    layer_rows,
    mark_front,
    pick_fields,
    rebase_rows,
    source_row,
    variant_row,
)
from compression.report.picture import draw_points


def make_row(**over):
    row = {"name": "int8", "state": "passed", "bytes": 100, "accuracy": 0.9, "agreement": 0.95}
    row |= {"relative_p50": 0.5, "p50_ms": 1.0, **over}
    lost = None if row["accuracy"] is None else 100 * (1 - row["accuracy"])
    return {"accuracy_drop_points": lost, **row}


def names_on_front(*rows):
    return {row["name"] for row in mark_front(list(rows)) if row["is_on_front"]}


def test_a_row_is_off_the_front_when_another_is_as_good_in_all_and_better_in_one():
    assert names_on_front(
        make_row(name="small", bytes=10, accuracy=0.8),
        make_row(name="exact", bytes=400, accuracy=0.99, relative_p50=1.0),
        make_row(name="fast", relative_p50=0.1),
        make_row(name="beaten"),
    ) == {"small", "exact", "fast"}


def test_without_labels_agreement_is_the_quality():
    rows = [make_row(name=name, accuracy=None, agreement=a) for name, a in (("a", 0.9), ("b", 0.8))]
    assert names_on_front(*rows) == {"a"}
    assert {point["measure"] for point in draw_points(rows)} == {"agreement with FP32"}


def test_rows_of_different_evaluation_sets_compare_by_what_each_lost_there():
    assert names_on_front(
        make_row(name="easy rows", accuracy=1.0, accuracy_drop_points=0.4),
        make_row(name="hard rows", accuracy=0.7, accuracy_drop_points=0.1),
        make_row(name="no labels", accuracy=None, agreement=0.99),
    ) == {"hard rows"}


def test_a_collapsed_model_neither_stands_on_the_front_nor_beats_anyone():
    assert names_on_front(
        make_row(name="good"), make_row(name="gone", bytes=1, accuracy=0.91, state="collapsed")
    ) == {"good"}


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=12
    )
)
def test_there_is_always_a_front_and_each_row_off_it_is_beaten_by_one_on_it(figures):
    rows = mark_front(
        [make_row(bytes=b, accuracy=a / 9, relative_p50=float(p)) for b, a, p in figures]
    )
    front = [row for row in rows if row["is_on_front"]]
    assert front
    for row in rows:
        if not row["is_on_front"]:
            assert any(
                other["bytes"] <= row["bytes"]
                and other["accuracy"] >= row["accuracy"]
                and other["relative_p50"] <= row["relative_p50"]
                for other in front
            )


def make_side(**over):
    accuracy = {"value": 0.9, "low": 0.88, "high": 0.92}
    latency = {"p50_ms": 2.0, "p95_ms": 3.0, "p99_ms": 4.0, "runs": 500}
    side = {"bytes": 1000, "compressed_bytes": 900, "accuracy": accuracy, "latency": latency}
    return {
        **side,
        "parameters": 50,
        "macs": 70,
        "sparsity": {"a": 0.0},
        "collapse_flags": [],
    } | over


REPORT = {
    "source": make_side(),
    "variant": make_side(
        bytes=250,
        sparsity={"a_quant": 0.25, "new": 0.5},
        agreement={"value": 0.99, "low": 0.98, "high": 0.995},
        divergence_nats=0.001,
    ),
    "ratio": 4.0,
    "samples": 600,
    "accuracy_drop_points": 0.0,
    "excluded": {"head": "kept; it is sensitive"},
    "passes": [{"pass": "quantize.static", "seconds": 1.5, "bytes": 250, "sha256": "ab"}],
    "evaluation_seconds": 0.5,
    "environment": {
        "libraries": {"onnx": "1.23"}, "cpu": "EPYC", "cpu_flags": ["avx2", "avx512f"],
        "machine": "x86_64", "seed": 3,
        "passes_sha256": "6" * 64,
    },
}  # fmt: skip
ORIGIN = {
    "name": "int8", "source_name": "fp32", "state": "passed", "is_promotable": True,
    "why_not": "", "threads": 1, "batch": 1, "source_sha256": "cd", "recipe_sha256": "ef",
    "calibration_sha256": None, "evaluation_sha256": "12", "identity": "34", "measured_at": None,
    "job": "56",
}  # fmt: skip


def test_a_row_has_every_field_of_the_table_and_its_cells_are_plain():
    row = variant_row(REPORT, **ORIGIN)
    assert set(row) == set(COMPARISON_FIELDS)
    cells = dict(zip(COMPARISON_FIELDS, next(pick_fields(COMPARISON_FIELDS, [row])), strict=True))
    assert cells["excluded"] == "head: kept; it is sensitive"
    assert cells["cpu_flags"] == "avx2; avx512f"
    assert cells["passes"] == "name: quantize.static, seconds: 1.5, bytes: 250"
    assert (cells["sha256"], cells["seed"], cells["control_p95_ms"]) == ("ab", 3, 3.0)
    source = source_row(REPORT, **ORIGIN | {"sha256": "cd"})
    assert set(source) == set(COMPARISON_FIELDS)


def test_what_was_made_of_another_variant_is_compared_with_fp32_all_the_same():
    control = make_row(name="fp32", source_name="fp32", bytes=1000, evaluation_sha256="1")
    first = make_row(name="a", source_name="fp32", relative_p50=0.5, evaluation_sha256="1")
    again = make_row(
        name="b", source_name="a", bytes=50, relative_p50=0.8, accuracy=0.85, evaluation_sha256="1"
    )
    lost = make_row(name="c", source_name="gone", evaluation_sha256="2")
    rows = rebase_rows(control, [first, again, lost])
    assert [row["relative_p50"] for row in rows] == [0.5, 0.4, None]
    assert (rows[1]["ratio"], rows[1]["accuracy_drop_points"]) == (20.0, 5.0)
    assert rows[2]["accuracy_drop_points"] is None, "accuracies on other data do not compare"


def test_layers_stand_beside_those_of_the_source_also_when_they_were_renamed():
    source = make_side(sparsity={"a": 0.125, "gone": 0.0})
    assert layer_rows({**REPORT, "source": source}) == [
        {"layer": "a_quant", "zero_share": 0.25, "source_zero_share": 0.125},
        {"layer": "new", "zero_share": 0.5, "source_zero_share": None},
        {"layer": "gone", "zero_share": None, "source_zero_share": 0.0},
    ]
