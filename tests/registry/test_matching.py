"""Which variant a device gets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.matching import Candidate, fits, pick_candidate, version_key

BOARD = {
    "arch": "aarch64",
    "isa": ["neon"],
    "providers": ["cpu"],
    "memory_mb": 512,
    "runtime_version": "1.10.0",
}
requirements = st.fixed_dictionaries(
    {},
    optional={
        "providers": st.lists(st.sampled_from(["cpu", "cuda", "npu"]), max_size=2),
        "arch": st.lists(st.sampled_from(["aarch64", "x86_64"]), max_size=2),
        "min_memory_mb": st.integers(0, 1024),
        "isa": st.lists(st.sampled_from(["avx2", "dotprod", "neon"]), max_size=2),
        "min_runtime": st.sampled_from(["", "1.9", "1.10", "1.11.2"]),
    },
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"providers": ["npu", "cpu"]}, True),
        ({"providers": ["npu"]}, False),
        ({"arch": ["x86_64"]}, False),
        ({"isa": []}, True),
        ({"isa": ["vnni", "neon"]}, True),
        ({"isa": ["dotprod"]}, False),
        ({"min_memory_mb": 512}, True),
        ({"min_memory_mb": 513}, False),
        ({"min_runtime": "1.9"}, True),
        ({"min_runtime": "1.11"}, False),
    ],
)
def test_every_requirement_must_be_met(wanted: dict[str, Any], expected: bool) -> None:
    assert fits(wanted, BOARD) is expected


def test_a_device_that_reports_nothing_gets_what_asks_for_nothing() -> None:
    assert fits({"providers": ["cpu"], "arch": [], "min_memory_mb": 0, "min_runtime": ""}, {})
    assert not fits({"min_memory_mb": 1}, {})
    assert not fits({"isa": ["vnni", "avx2", "neon"]}, {})


def test_an_accelerator_wins_then_the_smaller_file() -> None:
    candidates = [
        Candidate(1, {"providers": ["cpu"]}, 100),
        Candidate(2, {"providers": ["npu"]}, 1000),
        Candidate(3, {"providers": ["cpu"]}, 50),
    ]
    on_npu = pick_candidate(candidates, {**BOARD, "providers": ["cpu", "npu"]})
    on_cpu = pick_candidate(candidates, BOARD)
    assert on_npu is not None and on_npu.key == 2
    assert on_cpu is not None and on_cpu.key == 3


@given(st.lists(st.tuples(requirements, st.integers(1, 100)), max_size=6), st.randoms())
def test_the_pick_fits_and_does_not_depend_on_order(rows: list[Any], random: Any) -> None:
    candidates = [Candidate(key, needs, size) for key, (needs, size) in enumerate(rows)]
    picked = pick_candidate(candidates, BOARD)
    random.shuffle(candidates)
    assert pick_candidate(candidates, BOARD) == picked
    if picked is None:
        assert not any(fits(item.requirements, BOARD) for item in candidates)
    else:
        assert fits(picked.requirements, BOARD)


def test_versions_compare_by_number() -> None:
    assert version_key("1.10.0") > version_key("1.9.9") > version_key("1.9") > version_key("")


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        # (bytes, points lost, speedup) of each; the first is FP32.
        ([(400, 0.0, 1.0), (100, 0.2, 2.5)], 1),
        # Small, but over a point worse than the best.
        ([(400, 0.0, 1.0), (110, 0.2, 2.5), (60, 1.3, 2.6)], 1),
        # Small, but slow.
        ([(400, 0.0, 1.0), (110, 0.2, 2.5), (100, 0.2, 1.2)], 1),
        # As fast as the fastest, give or take a tenth: the smaller.
        ([(400, 0.0, 1.0), (110, 0.2, 2.5), (100, 0.2, 2.4)], 2),
        # INT8 that is slower than FP32 on the machine that measured it.
        ([(400, 0.0, 1.0), (100, 0.0, 0.6)], 0),
        # More accurate than FP32 by luck: not by more than a point, so the smaller.
        ([(400, 0.0, 1.0), (100, -0.4, 1.0)], 1),
        ([(400, None, None), (100, None, None)], 1),
    ],
)
def test_accuracy_and_time_count_before_bytes(figures: list[Any], expected: int) -> None:
    candidates = [
        Candidate(key, {}, size, drop_points=drop, speedup=speedup)
        for key, (size, drop, speedup) in enumerate(figures)
    ]
    picked = pick_candidate(candidates, BOARD)
    assert picked is not None and picked.key == expected


def test_what_is_made_for_an_instruction_set_wins_where_it_is_as_accurate() -> None:
    safe = Candidate(1, {}, 100, drop_points=0.1, speedup=3.0)
    made = Candidate(2, {"isa": ["neon"]}, 100, drop_points=0.1, speedup=0.8)
    bad = Candidate(3, {"isa": ["neon"]}, 50, drop_points=4.0, speedup=3.0)
    on_board = pick_candidate([safe, made, bad], BOARD)
    on_old_agent = pick_candidate([safe, made, bad], {**BOARD, "isa": []})
    assert on_board is not None and on_board.key == 2
    assert on_old_agent is not None and on_old_agent.key == 1
