"""The reference profile: every row is counted once, in the right bin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.validation.profile import (
    apply_activation,
    build_profile,
    calibration_curve,
    feature_profile,
    input_features,
    predict,
)


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(2, 6), st.integers(0, 10_000))
def test_every_row_is_counted_once(rows: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, 3))
    probabilities = apply_activation(generator.normal(size=(rows, classes)) * 50, "softmax")
    truth = generator.integers(0, classes, rows)
    profile = build_profile(
        labels=[str(n) for n in range(classes)],
        inputs=inputs,
        probabilities=probabilities,
        truth=truth,
    )
    assert profile["n"] == rows
    assert sum(profile["confidence"]["counts"]) == rows
    assert sum(profile["class"]["counts"]) == rows
    assert (len(profile["confidence"]["counts"]), len(profile["class"]["counts"])) == (
        64,
        classes + 1,
    )
    for feature in profile["features"]:
        assert (len(feature["edges"]), len(feature["counts"])) == (63, 64)
        assert feature["edges"] == sorted(feature["edges"])
        assert sum(feature["counts"]) == rows
    assert profile["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == truth).mean())


def test_classes_outside_the_label_map_are_counted_last() -> None:
    probabilities = np.eye(5)[[0, 4, 4]]
    profile = build_profile(
        labels=["a", "b"], inputs=np.zeros((3, 2)), probabilities=probabilities, truth=None
    )
    assert profile["class"]["counts"] == [1, 0, 2]
    assert (profile["accuracy"], profile["calibration"]) == (None, None)
    assert profile["confidence"]["counts"][63] == 3


def test_activations_do_not_overflow() -> None:
    scores = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert apply_activation(scores, "softmax").tolist() == [[1, 0], [0, 1]]
        assert apply_activation(scores, "sigmoid").tolist() == [[1, 0], [0, 1]]
    assert apply_activation(scores, "none").tolist() == scores.tolist()


def test_a_single_column_is_the_probability_of_class_one() -> None:
    classes, confidence = predict(np.array([[0.9], [0.2]]))
    assert classes.tolist() == [1, 0]
    assert confidence.tolist() == pytest.approx([0.9, 0.8])


def test_features_are_mean_and_population_deviation() -> None:
    features = input_features(np.array([[[1.0, 3.0]], [[2.0, 2.0]]]))
    assert features.tolist() == [[2, 1], [2, 0]]


def test_a_constant_feature_has_finite_edges() -> None:
    profile = feature_profile("f", np.full(10, 7.0))
    assert set(profile["edges"]) == {7.0}
    assert sum(profile["counts"]) == 10


def test_calibration_has_one_edge_more_than_values() -> None:
    curve = calibration_curve(np.linspace(0.5, 1, 100), np.arange(100) % 2 == 0)
    assert len(curve["edges"]) == len(curve["accuracy"]) + 1
    assert curve["accuracy"][0] == pytest.approx(0.5, abs=0.1)
