"""The reference profile: every row is counted once, in the right bin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.reading.inputs import describe_rows
from registry.validation.profile import build_profile, calibration_curve, feature_profile


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(2, 6), st.integers(0, 10_000))
def test_every_row_is_counted_once(rows: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, 3))
    found = generator.integers(0, classes, rows)
    truth = generator.integers(0, classes, rows)
    profile = build_profile(
        labels=[str(n) for n in range(classes)],
        inputs=describe_rows(inputs),
        measures={"value": generator.normal(size=rows)},
        classes=found,
        confidence=generator.random(rows),
        truth=truth,
    )
    assert profile["n"] == rows
    assert sum(profile["confidence"]["counts"]) == rows
    assert sum(profile["class"]["counts"]) == rows
    assert (len(profile["confidence"]["counts"]), len(profile["class"]["counts"])) == (
        64,
        classes + 1,
    )
    assert [row["name"] for row in profile["features"]] == ["input_mean", "input_std", "value"]
    for feature in profile["features"]:
        assert (len(feature["edges"]), len(feature["counts"])) == (63, 64)
        assert feature["edges"] == sorted(feature["edges"])
        assert sum(feature["counts"]) == rows
    assert profile["accuracy"] == pytest.approx((found == truth).mean())


def test_classes_outside_the_label_map_are_counted_last() -> None:
    profile = build_profile(
        labels=["a", "b"],
        inputs=np.zeros((3, 2)),
        measures={},
        classes=np.array([0, 4, -1]),
        confidence=np.ones(3),
        truth=None,
    )
    assert profile["class"]["counts"] == [1, 0, 2]
    assert (profile["accuracy"], profile["calibration"]) == (None, None)
    assert profile["confidence"]["counts"][63] == 3


def test_a_task_without_classes_counts_none() -> None:
    profile = build_profile(
        labels=[],
        inputs=np.zeros((3, 2)),
        measures={"value": np.array([1.0, 2.0, 3.0])},
        classes=None,
        confidence=None,
        truth=None,
    )
    assert (sum(profile["class"]["counts"]), sum(profile["confidence"]["counts"])) == (0, 0)
    assert sum(profile["features"][2]["counts"]) == 3


def test_features_are_mean_and_population_deviation() -> None:
    features = describe_rows(np.array([[[1.0, 3.0]], [[2.0, 2.0]]]))
    assert features.tolist() == [[2, 1], [2, 0]]


def test_texts_are_described_by_their_lengths() -> None:
    features = describe_rows(np.array([["ab", ""], ["abc", "abc"]], dtype=object))
    assert features.tolist() == [[1, 1], [3, 0]]


def test_a_constant_feature_has_a_bin_of_its_own_between_finite_edges() -> None:
    profile = feature_profile("f", np.full(10, 7.0))
    edges = profile["edges"]
    assert np.isfinite(edges).all() and edges[0] < 7.0 < edges[-1]
    assert edges[-1] - edges[0] < 1e-4
    assert profile["counts"] == [0, 10, *[0] * 62]


def test_rounding_moves_no_value_into_another_bin() -> None:
    values = np.repeat([0.0, 1.0, 2.0, 5.0], 25)
    profile = feature_profile("f", values)
    for shift in (-1e-7, 1e-7):
        index = np.searchsorted(profile["edges"], values + shift, side="right")
        assert np.bincount(index, minlength=64).tolist() == profile["counts"]


def test_inputs_standardised_one_by_one_keep_their_bins_in_single_precision() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 64))
    inputs = (inputs - inputs.mean(1, keepdims=True)) / inputs.std(1, keepdims=True)
    profile = build_profile(
        labels=["a"],
        inputs=describe_rows(inputs.astype(np.float32)),
        measures={},
        classes=None,
        confidence=None,
        truth=None,
    )
    for feature, method in zip(profile["features"], ("mean", "std"), strict=True):
        single = [float(getattr(row.astype(np.float32), method)()) for row in inputs]
        index = np.searchsorted(feature["edges"], single, side="right")
        assert np.bincount(index, minlength=64).tolist() == feature["counts"]


def test_calibration_has_one_edge_more_than_values() -> None:
    curve = calibration_curve(np.linspace(0.5, 1, 100), np.arange(100) % 2 == 0)
    assert len(curve["edges"]) == len(curve["accuracy"]) + 1
    assert curve["accuracy"][0] == pytest.approx(0.5, abs=0.1)
