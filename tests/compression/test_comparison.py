"""The comparison of measured variants and its Pareto front."""

from hypothesis import given
from hypothesis import strategies as st

from compression.comparison import draw_points, mark_front


def make_row(**over):
    row = {"name": "int8", "state": "passed", "bytes": 100, "accuracy": 0.9, "agreement": 0.95}
    return {**row, "relative_p50": 0.5, "p50_ms": 1.0, **over}


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
