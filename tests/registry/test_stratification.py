"""Which rows make a calibration set: every stratum is served, no device crowds out the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from registry.stratification import (
    allocate_places,
    draw_rows,
    hash_rows,
    make_strata,
    split_rows,
)

sizes_lists = st.lists(st.integers(1, 500), min_size=1, max_size=40)


@given(sizes_lists, st.integers(0, 3000))
def test_all_places_are_given_and_none_beyond_a_stratum(sizes: list[int], count: int) -> None:
    places = allocate_places(np.array(sizes), count)
    assert places.sum() == min(count, sum(sizes))
    assert (places >= 0).all()
    assert (places <= sizes).all()
    if count >= len(sizes):
        assert (places >= 1).all()


@given(sizes_lists, st.integers(40, 3000))
def test_a_larger_stratum_never_gets_fewer_places(sizes: list[int], count: int) -> None:
    places = allocate_places(np.array(sizes), count)
    order = np.argsort(sizes, kind="stable")
    assert (np.diff(places[order]) >= -1).all()


def test_four_times_the_rows_get_twice_the_places() -> None:
    assert allocate_places(np.array([40_000, 10_000]), 300).tolist() == [200, 100]


@given(st.integers(1, 400), st.integers(1, 500), st.integers(0, 50))
def test_a_draw_has_no_repeats_and_the_same_seed_draws_the_same(
    rows: int, count: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    strata = make_strata(generator.integers(-1, 10, rows), generator.random(rows))
    groups = generator.integers(0, 7, rows)
    drawn = draw_rows(strata, groups, count, seed)
    assert len(drawn) == min(rows, count) == len(set(drawn.tolist()))
    assert (np.diff(drawn) > 0).all()
    assert (drawn == draw_rows(strata, groups, count, seed)).all()


def test_a_talkative_device_weighs_no_more_than_a_quiet_one() -> None:
    groups = np.array([0] * 1000 + [1] * 10 + [2] * 100)
    drawn = draw_rows(np.zeros(1110, np.int64), groups, 60, 3)
    assert np.bincount(groups[drawn]).tolist() == [25, 10, 25]


def test_rare_classes_and_low_confidence_are_present() -> None:
    classes = np.array([0] * 9990 + [1] * 10)
    confidence = np.where(np.arange(10_000) % 500 == 0, 0.4, 0.99)
    strata = make_strata(classes, confidence)
    drawn = draw_rows(strata, np.zeros(10_000, np.int64), 200, 0)
    assert (classes[drawn] == 1).sum() >= 5
    assert (confidence[drawn] < 0.5).sum() >= 5


def test_unknown_answers_are_strata_of_their_own() -> None:
    strata = make_strata(np.array([-1, 0, 0, 0]), np.array([0.9, np.nan, 0.0, 0.95]))
    assert len(set(strata.tolist())) == 4


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=200),
    st.floats(0.05, 0.95),
    st.integers(0, 9),
)
def test_a_split_has_no_row_in_common(values: list[int], share: float, seed: int) -> None:
    column = np.array(values, np.float32)[:, None]
    hashes = hash_rows([column])
    is_first = split_rows(hashes, None, share, seed)
    assert not set(column[is_first, 0]) & set(column[~is_first, 0])
    distinct = len(set(values))
    assert len(set(column[is_first, 0])) == round(distinct * share)


def test_a_split_keeps_the_shares_of_the_labels() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    hashes = hash_rows([np.arange(1000, dtype=np.float32)[:, None]])
    is_first = split_rows(hashes, labels, 0.3, 1)
    assert np.bincount(labels[is_first]).tolist() == [270, 30]
