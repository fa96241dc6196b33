"""finetune.kd and distill.student over files, and what they say about themselves."""

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.engine.passes.prepare import prepare_file
from compression.engine.training.student import build_student, choose_width, read_signature
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.samples import Samples
from compression.measure.scoring import OTHER, Scoring
from registry.reading.contract import Contract
from tests.factories.compression import CLASSES, SIDE, build, make_model, make_samples, run_model
from tests.factories.passes import run_pass

QUICK: dict[str, dict[str, Any]] = {
    "finetune.kd": {"steps": 30},
    "distill.student": {"steps": 120, "width": 4},
}

LOGITS = Contract("classification", "scores", {"scores": "logits"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The source, prepared, and the same with damaged weights: what a rough pass leaves."""
    path = tmp_path_factory.mktemp("models")
    onnx.save(make_model(), str(path / "original.onnx"))
    prepare_file(path / "original.onnx", path / "prepared.onnx")
    model = onnx.load(str(path / "prepared.onnx"))
    generator = np.random.default_rng(4)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 4:
            noise = generator.normal(0, 0.7 * value.std(), value.shape)
            tensor.CopyFrom(
                numpy_helper.from_array((value + noise).astype(np.float32), tensor.name)
            )
    onnx.save(model, str(path / "damaged.onnx"))
    return path


def train(folder, tmp_path, name, *, source="damaged", labels=True, rows=300, **over):
    scoring = over.pop("scoring", Scoring())
    x, y = make_samples(rows, seed=21)
    progress: list[tuple[int, int]] = []
    result, path = run_pass(
        name,
        folder / f"{source}.onnx",
        tmp_path,
        parameters={**QUICK[name], **over},
        original=folder / "original.onnx",
        scoring=scoring,
        calibration=Samples({"x": x}, y if labels else None),
        report_progress=lambda done, total: progress.append((done, total)),
    )
    return result.facts, onnx.load(str(path)), progress


def accuracy(model):
    x, y = make_samples(500, seed=22)
    return float((run_model(model, x).argmax(axis=1) == y).mean())


def signature(model):
    return [item.SerializeToString() for item in [*model.graph.input, *model.graph.output]]


@pytest.mark.parametrize("labels", [True, False], ids=["with labels", "without labels"])
def test_fine_tuning_brings_back_what_damage_has_cost(labels, folder, tmp_path):
    damaged = onnx.load(str(folder / "damaged.onnx"))
    facts, model, progress = train(folder, tmp_path, "finetune.kd", labels=labels)
    assert accuracy(model) > accuracy(damaged) + 0.05
    assert [node.op_type for node in model.graph.node] == [
        node.op_type for node in damaged.graph.node
    ]
    assert signature(model) == signature(damaged)
    scores = facts["held_out"]
    assert set(scores) == {"before", "distilled"} | ({"control"} if labels else set())
    assert facts["kept"] in {"distilled", "control"}
    assert all((score["accuracy"] is not None) == labels for score in scores.values())
    assert scores["distilled"]["divergence"] < scores["before"]["divergence"]
    total = 30 * (2 if labels else 1)
    assert progress == [(step + 1, total) for step in range(total)]


def add_features(path, target):
    """The model with its features as a second output, in other numbers than its scores."""
    model = onnx.load(str(path))
    (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    model.graph.output.append(helper.make_empty_tensor_value_info(head.input[0]))
    onnx.save(onnx.shape_inference.infer_shapes(model), str(target))


def test_fine_tuning_brings_all_outputs_of_a_regression_nearer(folder, tmp_path):
    for name in ("original", "damaged"):
        add_features(folder / f"{name}.onnx", tmp_path / f"{name}.onnx")
    facts, _, _ = train(tmp_path, tmp_path, "finetune.kd", labels=False, scoring=Scoring(OTHER))
    scores = facts["held_out"]
    assert facts["kept"] == "distilled"
    assert scores["distilled"]["divergence"] < 0.5 * scores["before"]["divergence"]


def test_a_classifier_with_features_is_taught_its_scores(folder, tmp_path):
    for name in ("original", "damaged"):
        add_features(folder / f"{name}.onnx", tmp_path / f"{name}.onnx")
    facts, model, _ = train(
        tmp_path,
        tmp_path,
        "finetune.kd",
        scoring=Scoring(LOGITS),
        steps=10,
    )
    assert facts["held_out"]["distilled"]["accuracy"] is not None
    assert len(model.graph.output) == 2


def test_a_student_of_a_regression_is_refused(folder, tmp_path):
    with pytest.raises(ModelUnsupportedError, match="classifiers alone"):
        train(folder, tmp_path, "distill.student", scoring=Scoring(OTHER))


def test_fine_tuning_that_helps_nothing_keeps_the_weights_to_the_byte(folder, tmp_path):
    # At this rate the first step destroys the weights, and nothing that follows is better.
    facts, model, _ = train(
        folder, tmp_path, "finetune.kd", source="prepared", learning_rate=1.0, steps=5
    )
    assert facts["kept"] == "before"
    assert model.SerializeToString() == onnx.load(folder / "prepared.onnx").SerializeToString()


def test_a_student_takes_the_place_of_its_source(folder, tmp_path):
    facts, model, _ = train(folder, tmp_path, "distill.student")
    source = onnx.load(str(folder / "original.onnx"))
    assert signature(model) == signature(source)
    assert accuracy(model) > 0.9
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert model.ByteSize() < source.ByteSize() / 10
    assert set(facts["held_out"]) == {"teacher", "distilled", "control"}
    assert facts["kept"] in {"distilled", "control"}
    assert facts["rows"] == {"train": 240, "held_out": 60}


@pytest.mark.parametrize("blocks", ["full", "separable"])
def test_a_student_of_no_given_width_is_as_wide_as_its_share_of_the_source(blocks):
    small = make_model()
    large = make_model((64, 128, 256))
    shape = read_signature(small, CLASSES)
    is_separable = blocks == "separable"
    narrow, wide = (
        choose_width(model, shape, ratio=14, is_separable=is_separable) for model in (small, large)
    )
    assert 8 <= narrow < wide <= 64
    student = build_student(
        shape, width=wide, is_separable=is_separable, is_probability=False, seed=0
    )
    assert student.ByteSize() / 4 < large.ByteSize() / 12


CUT: dict[str, Any] = {"blocks": "pruned", "steps": 20}


@pytest.mark.parametrize("labels", [True, False], ids=["with labels", "without labels"])
def test_a_pruned_student_is_its_source_with_fewer_channels(labels, folder, tmp_path):
    source = onnx.load(str(folder / "original.onnx"))
    facts, model, _ = train(
        folder, tmp_path, "distill.student", source="original", labels=labels, ratio=8, **CUT
    )
    prepared = onnx.load(str(folder / "prepared.onnx"))
    assert signature(model) == signature(source)
    assert [node.op_type for node in model.graph.node] == [
        node.op_type for node in prepared.graph.node
    ]
    assert accuracy(model) > 0.9
    cut = facts["pruned"]
    assert cut["parameters_after"] < cut["parameters_before"] / 2
    assert cut["expected_int8_bytes"] <= source.ByteSize() / 8
    runs = {"teacher", "before", "distilled"} | ({"control"} if labels else set())
    assert set(facts["held_out"]) == runs
    assert facts["kept"] in runs - {"teacher"}


def test_a_pruned_student_learns_what_cutting_has_cost(folder, tmp_path):
    facts, _, _ = train(
        folder, tmp_path, "distill.student", source="original", labels=False, ratio=12, **CUT
    )
    scores = facts["held_out"]
    assert facts["kept"] == "distilled"
    assert scores["distilled"]["divergence"] < scores["before"]["divergence"]


def test_a_pruned_student_may_take_the_place_of_any_model(tmp_path):
    generator = np.random.default_rng(5)
    draw = lambda *shape: generator.normal(0, 0.2, shape).astype(np.float32)  # noqa: E731
    weights = {"a": draw(SIDE * SIDE, 64), "b": draw(64), "c": draw(64, 64), "d": draw(64, 5)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "a", "b"], ["g"]),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["s"]),
        helper.make_node("Relu", ["s"], ["t"]),
        helper.make_node("MatMul", ["t", "d"], ["height"]),
    ]
    onnx.save(build(nodes, weights, ("height", 5), "N"), str(tmp_path / "original.onnx"))
    facts, model, _ = train(
        tmp_path,
        tmp_path,
        "distill.student",
        source="original",
        labels=False,
        scoring=Scoring(OTHER),
        ratio=8,
        **CUT,
    )
    assert facts["pruned"]["parameters_after"] < facts["pruned"]["parameters_before"]
    assert run_model(model, make_samples(3, seed=1)[0]).shape == (3, 5)


def test_a_pruned_student_that_needs_no_pruning_is_refused(folder, tmp_path):
    with pytest.raises(ModelUnsupportedError, match="Nothing needs to be pruned"):
        train(folder, tmp_path, "distill.student", source="original", ratio=2, **CUT)


def test_a_pruned_student_has_the_same_bytes_for_the_same_seed(folder, tmp_path):
    contents = []
    for index in range(2):
        target = tmp_path / str(index)
        target.mkdir()
        train(folder, target, "distill.student", source="original", ratio=8, **CUT)
        contents.append((target / "out.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_a_student_of_probabilities_gives_probabilities(folder, tmp_path):
    source = onnx.load(str(folder / "original.onnx"))
    last = source.graph.node[-1]
    last.output[0] = "scores"
    source.graph.node.append(helper.make_node("Softmax", ["scores"], ["logits"], axis=-1))
    onnx.save(source, str(tmp_path / "original.onnx"))
    _, model, _ = train(tmp_path, tmp_path, "distill.student", source="original", labels=False)
    x, _ = make_samples(50, seed=23)
    assert np.allclose(run_model(model, x).sum(axis=1), 1.0, atol=1e-5)
    assert accuracy(model) > 0.9


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(
    "variation", [{}, {"noise": 0.2, "shift": 1, "mixup": 1.0}], ids=["plain", "varied"]
)
def test_the_same_seed_gives_the_same_bytes(name, variation, folder, tmp_path):
    contents = []
    for index in range(2):
        target = tmp_path / str(index)
        target.mkdir()
        train(folder, target, name, **{**variation, "steps": 12})
        contents.append((target / "out.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_a_loss_that_is_not_finite_ends_training_and_keeps_what_was(folder, tmp_path):
    model = onnx.load(str(folder / "prepared.onnx"))
    x, _ = make_samples(100, seed=24)
    # At zero a square root has a value, but no finite slope.
    weights = {"w": np.zeros((CLASSES, SIDE * SIDE), np.float32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["g"], transB=1),
        helper.make_node("Abs", ["g"], ["a"]),
        helper.make_node("Sqrt", ["a"], ["logits"]),
    ]
    onnx.save(build(nodes, weights, ("logits", CLASSES), "N"), str(tmp_path / "source.onnx"))
    onnx.save(model, str(tmp_path / "original.onnx"))
    facts, result, _ = train(tmp_path, tmp_path, "finetune.kd", source="source")
    assert facts["kept"] == "before"
    assert facts["held_out"]["distilled"]["ending"] == "non_finite"
    assert facts["held_out"]["distilled"]["steps"] == 0
    assert np.isfinite(run_model(result, x)).all()


def set_clock(monkeypatch, step_seconds):
    """A clock that moves by so much whenever it is read; the last figure goes on for ever."""
    *first, rest = step_seconds
    ticks = itertools.accumulate(itertools.chain(first, itertools.repeat(rest)))
    monkeypatch.setattr("compression.engine.training.loop.monotonic", lambda: next(ticks))


def test_as_many_steps_are_planned_as_the_time_allows(folder, tmp_path, monkeypatch):
    set_clock(monkeypatch, [1.0])
    facts, _, progress = train(folder, tmp_path, "finetune.kd", seconds=10, labels=False)
    run = facts["held_out"]["distilled"]
    assert (facts["steps"], run["ending"], run["steps"]) == (9, "steps", 9)
    assert progress[-1] == (9, 9)


def test_training_ends_at_its_time_limit_on_a_machine_that_gets_slower(
    folder, tmp_path, monkeypatch
):
    set_clock(monkeypatch, [0.1] * 4 + [1.0])
    facts, _, _ = train(folder, tmp_path, "finetune.kd", seconds=10, labels=False)
    run = facts["held_out"]["distilled"]
    assert (facts["steps"], run["ending"], run["steps"]) == (30, "seconds", 10)


@pytest.mark.parametrize("steps", [1, 2, 8, 9, 10, 19])
def test_any_number_of_steps_can_be_asked_for(steps, folder, tmp_path):
    facts, _, _ = train(folder, tmp_path, "finetune.kd", steps=steps, labels=False)
    assert facts["held_out"]["distilled"]["steps"] == steps


def test_fewer_steps_give_the_bytes_of_a_recipe_that_asks_for_them(folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        set_clock(patched, [1.0])
        facts, hurried, _ = train(folder, tmp_path, "finetune.kd", seconds=10, labels=False)
    _, asked, _ = train(folder, tmp_path, "finetune.kd", steps=facts["steps"], labels=False)
    assert hurried.SerializeToString() == asked.SerializeToString()


def make_graph(nodes, shape, output=("logits", CLASSES)):
    return build(nodes, {"w": np.ones((4, 4), np.float32)}, output, "N", shape)


REFUSED_STUDENTS = {
    "a table of features": ([helper.make_node("MatMul", ["x", "w"], ["logits"])], (4,)),
    "a sequence": ([helper.make_node("MatMul", ["x", "w"], ["logits"])], (3, 4)),
}


@pytest.mark.parametrize("name", REFUSED_STUDENTS)
def test_a_student_of_what_is_no_image_classifier_is_refused(name, tmp_path):
    nodes, shape = REFUSED_STUDENTS[name]
    onnx.save(make_graph(nodes, shape), str(tmp_path / "original.onnx"))
    with pytest.raises(ModelUnsupportedError, match="image classifiers"):
        train(tmp_path, tmp_path, "distill.student", source="original")


def test_a_student_of_integers_is_refused(folder, tmp_path):
    model = onnx.load(str(folder / "original.onnx"))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    cast = helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT)
    model.graph.node[0].input[0] = "xf"
    model.graph.node.insert(0, cast)
    onnx.save(model, str(tmp_path / "original.onnx"))
    with pytest.raises(ModelUnsupportedError, match="a type other than FP32"):
        train(tmp_path, tmp_path, "distill.student", source="original")


@pytest.mark.parametrize("name", QUICK)
def test_too_few_rows_are_refused_with_both_numbers(name, folder, tmp_path):
    with pytest.raises(DataSetUnusableError, match="at least 32 calibration rows, found 20"):
        train(folder, tmp_path, name, rows=20)


def test_labels_without_a_class_are_refused(folder, tmp_path, monkeypatch):
    x, y = make_samples(100, seed=25)
    monkeypatch.setattr(f"{__name__}.make_samples", lambda rows, seed: (x, y + 1))
    with pytest.raises(DataSetUnusableError, match="Labels must be 0 to 3, found 1 to 4"):
        train(folder, tmp_path, "finetune.kd")
