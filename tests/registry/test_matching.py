"""Which variant a device gets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.matching import Candidate, fits, pick_candidate, version_key

BOARD = {"arch": "aarch64", "providers": ["cpu"], "memory_mb": 512, "runtime_version": "1.10.0"}
requirements = st.fixed_dictionaries(
    {},
    optional={
        "providers": st.lists(st.sampled_from(["cpu", "cuda", "npu"]), max_size=2),
        "arch": st.lists(st.sampled_from(["aarch64", "x86_64"]), max_size=2),
        "min_memory_mb": st.integers(0, 1024),
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
