"""What a class of devices says of a measurement."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.device_results import (
    MAY_SATURATE,
    OTHERWISE,
    SATURATED,
    judge_result,
    name_kernels,
)

NARROW, EXACT = ("avx2",), ("avx2", "vnni")
MEASURED: dict[str, Any] = {
    "accuracy": 0.9,
    "accuracy_interval": [0.88, 0.92],
    "accuracy_by_isa": {"avx2": 0.9, "avx512": 0.9, "vnni": 0.9},
    "saturates_on": ["avx2", "avx512"],
}


def judge(**over: Any) -> str:
    given: dict[str, Any] = {
        "rows": 64, "agreement": 1.0, "labelled": 64, "accuracy": 0.9, "isa": EXACT,
        "metrics": MEASURED,
    }  # fmt: skip
    return judge_result(**{**given, **over})


@pytest.mark.parametrize(
    ("over", "verdict"),
    [
        ({}, ""),
        ({"agreement": 60 / 64}, ""),  # 4 of 64 rows may be near a tie
        ({"agreement": 40 / 64}, OTHERWISE),
        ({"agreement": 40 / 64, "isa": NARROW}, SATURATED),
        ({"agreement": 40 / 64, "isa": ("avx2", "avx512")}, SATURATED),
        ({"agreement": 40 / 64, "isa": ()}, OTHERWISE),
        ({"agreement": 40 / 64, "isa": NARROW, "metrics": {}}, MAY_SATURATE),
        ({"agreement": 40 / 64, "isa": NARROW, "metrics": {"saturates_on": []}}, OTHERWISE),
        ({"accuracy": 0.5}, OTHERWISE),
        ({"accuracy": 0.5, "isa": NARROW}, SATURATED),
        ({"accuracy": 0.5, "metrics": {}}, ""),  # nothing to contradict
        ({"accuracy": None}, ""),
        # What was foreseen for these kernels contradicts nothing.
        (
            {
                "accuracy": 0.5, "isa": NARROW,
                "metrics": {**MEASURED, "accuracy_by_isa": {"avx2": 0.5, "vnni": 0.9}},
            },
            "",
        ),
        ({"rows": 8, "agreement": 7 / 8, "labelled": 0, "accuracy": None}, ""),
    ],
)  # fmt: skip
def test_a_class_contradicts_only_what_is_certain(over: dict[str, Any], verdict: str) -> None:
    assert judge(**over) == verdict


@given(rows=st.integers(1, 200), changed=st.floats(0, 1))
def test_more_changed_answers_never_clear_a_class(rows: int, changed: float) -> None:
    better = judge(rows=rows, agreement=1 - changed / 2, accuracy=None)
    worse = judge(rows=rows, agreement=1 - changed, accuracy=None)
    assert not (better and not worse)


def test_the_fastest_kernels_of_a_processor_are_those_it_uses() -> None:
    assert name_kernels(("avx2", "avx512", "vnni")) == "vnni"
    assert name_kernels(("avx2", "avx512")) == "avx512"
    assert name_kernels(("dotprod", "neon")) == "dotprod"
    assert name_kernels(()) == ""
