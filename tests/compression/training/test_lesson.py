"""What is shown in training: splits, batches and variations."""

import itertools

import numpy as np
import pytest
from onnx import helper, numpy_helper

from compression.engine.training.lesson import Lesson, Variation, blend, shift_images
from compression.engine.training.score import Score, score_answers
from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from compression.measure.scoring import Scoring
from compression.measure.sessions import open_session
from tests.factories.compression import make_model, make_samples, run_model

ROWS = 100


@pytest.fixture(scope="module")
def teacher():
    return open_session(make_model().SerializeToString())


def make_lesson(teacher, *, labels=True, seed=0, **variation):
    x, y = make_samples(ROWS, seed=31)
    samples = Samples({"x": x}, y if labels else None)
    return Lesson(samples, teacher, scoring=Scoring(), variation=Variation(**variation), seed=seed)


def take(lesson, count, seed=0, size=16):
    return list(itertools.islice(lesson.batches(size, seed), count))


def test_a_fifth_is_held_out_and_never_shown(teacher):
    lesson = make_lesson(teacher)
    assert (len(lesson.train), len(lesson.held_out)) == (80, 20)
    shown = {row.tobytes() for batch in take(lesson, 15) for row in batch.feeds["x"]}
    assert len(shown) == 80
    assert not shown & {row.tobytes() for row in lesson.held_out.inputs["x"]}


@pytest.mark.parametrize(
    "variation", [{}, {"noise": 0.3, "shift": 2}, {"mixup": 1.0}], ids=["plain", "varied", "mixed"]
)
def test_the_teacher_is_asked_about_what_is_shown(variation, teacher):
    for batch in take(make_lesson(teacher, **variation), 3):
        expected = run_model(make_model(), batch.feeds["x"])
        assert np.allclose(batch.teacher, expected, atol=1e-4)
        assert np.allclose(batch.labels.sum(axis=1), 1.0, atol=1e-6)


def test_the_same_seed_shows_the_same_and_another_shows_other(teacher):
    options = {"noise": 0.1, "shift": 1, "mixup": 0.5}
    first, second, other = (
        take(make_lesson(teacher, **options), 4, seed=seed) for seed in (1, 1, 2)
    )
    pairs = list(zip(first, second, strict=True))
    assert all(np.array_equal(a.feeds["x"], b.feeds["x"]) for a, b in pairs)
    assert not np.array_equal(first[0].feeds["x"], other[0].feeds["x"])


def test_without_labels_a_batch_has_none(teacher):
    lesson = make_lesson(teacher, labels=False, mixup=1.0)
    assert not lesson.has_labels
    assert take(lesson, 1)[0].labels is None


def test_noise_is_measured_by_the_spread_of_the_data(teacher):
    lesson = make_lesson(teacher, noise=0.5)
    shown = np.concatenate([batch.feeds["x"] for batch in take(lesson, 5)])
    spread = lesson.train.inputs["x"].std()
    assert shown.std() == pytest.approx(spread * np.sqrt(1 + 0.5**2), rel=0.02)


def test_shifted_images_hold_the_same_picture_moved_with_the_edge_repeated():
    image = np.arange(20, dtype=np.float32).reshape(1, 1, 4, 5)
    padded = np.pad(image[0, 0], 1, mode="edge")
    moved = shift_images(np.repeat(image, 200, axis=0), 1, np.random.default_rng(0))
    places = {
        padded[top : top + 4, left : left + 5].tobytes() for top in range(3) for left in range(3)
    }
    assert {picture.tobytes() for picture in moved} == places


def test_a_blend_takes_each_row_by_its_share():
    values = np.array([[0.0, 2.0], [4.0, 8.0]], np.float32)
    mixed = blend(values, np.array([1, 0]), np.array([0.75, 1.0]))
    assert mixed.tolist() == [[1.0, 3.5], [4.0, 8.0]]


def test_scores_that_are_no_row_of_classes_are_refused():
    images = make_model()
    last = images.graph.node[-1]
    last.output[0] = "scores"
    images.graph.node.append(helper.make_node("Reshape", ["scores", "pairs"], ["logits"]))
    images.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 2], np.int64), "pairs"))
    images.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("logits"))
    with pytest.raises(ModelUnsupportedError, match=r"scores \[N, classes\] in 'logits', found"):
        make_lesson(open_session(images.SerializeToString()))


RANKS = {
    "more accurate": (Score(0.5, 0.9, 0.8), Score(0.1, 0.8, 0.1)),
    "as accurate, surer of the labels": (Score(0.5, 0.9, 0.2), Score(0.1, 0.9, 0.3)),
    "without labels, nearer to the teacher": (Score(0.1), Score(0.2)),
    "finite": (
        Score(9.0, 0.1, 5.0),
        score_answers(np.ones((2, 2)), np.full((2, 2), np.nan), np.zeros(2, int)),
    ),
}


@pytest.mark.parametrize("name", RANKS)
def test_the_better_model_ranks_higher(name):
    better, worse = RANKS[name]
    assert better.rank > worse.rank


def test_a_score_of_figures_that_are_not_finite_is_valid_json():
    worst = score_answers(np.ones((2, 2)), np.full((2, 2), np.inf), None)
    assert worst.to_json() == {"divergence": None, "accuracy": None, "loss": None}
