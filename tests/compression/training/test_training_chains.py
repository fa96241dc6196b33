"""Chains with training on the demonstration's digits, and the same through a job."""

import shutil
from pathlib import Path

import pytest

from compression.engine.run_recipe import run_chain
from compression.engine.training.requirement import engine_versions
from compression.recipe.provenance import step_keys
from compression.recipe.recipe import parse_recipe
from compression.services.running import run_job
from compression.states import JobState
from tests.factories.compression import make_job, make_version

DATA = Path(__file__).resolve().parents[3] / "demo" / "data"
PRUNED = [
    {"pass": "prepare"},
    {"pass": "prune.structured", "ratio": 0.4, "allocation": "uniform"},
    {"pass": "finetune.kd", "steps": 60},
    {"pass": "quantize.static"},
]
DISTILLED = [
    {"pass": "distill.student", "steps": 300, "mixup": 1.0, "shift": 1, "noise": 0.2},
    {"pass": "quantize.static"},
]

CUT = [
    {"pass": "distill.student", "blocks": "pruned", "ratio": 14, "steps": 60, "shift": 1},
    {"pass": "quantize.static"},
]


def run_digits(scratch, passes):
    for source, target in (
        ("digits-cnn-1.1.0.onnx", "model.onnx"),
        ("calibration.npz", "calibration.npz"),
        ("eval.npz", "evaluation.npz"),
    ):
        shutil.copy(DATA / source, scratch / target)
    order = {
        "recipe": {
            "schema": "compress/1",
            "passes": passes,
            "data": {"min_calibration": 100},
            "limits": {"threads": 1},
        },
        "source": "model.onnx",
        "calibration": "calibration.npz",
        "evaluation": "evaluation.npz",
        "done": [],
    }
    return run_chain(order, scratch, lambda *_, **__: None)


def test_digits_pruned_trained_and_quantized_keep_their_accuracy(tmp_path):
    report = run_digits(tmp_path, PRUNED)
    assert report["outcome"] == "passed"
    assert report["ratio"] > 6
    assert report["accuracy_drop_points"] <= 1.0
    assert engine_versions().items() <= report["environment"]["libraries"].items()


def test_a_distilled_and_quantized_student_of_the_digits_is_tiny(tmp_path):
    report = run_digits(tmp_path, DISTILLED)
    assert report["ratio"] > 12
    # From 160 labelled rows a student learns this much; the rest is what more rows are for.
    assert report["variant"]["accuracy"]["value"] > 0.8
    assert report["passes"][0]["facts"]["held_out"]["control"]["accuracy"] > 0.5


def test_a_pruned_student_of_the_digits_is_as_small_as_was_asked(tmp_path):
    report = run_digits(tmp_path, CUT)
    assert report["ratio"] > 12
    assert report["accuracy_drop_points"] <= 3.0
    facts = report["passes"][0]["facts"]
    assert 0.8 < facts["pruned"]["expected_int8_bytes"] / report["variant"]["bytes"] < 1.25


@pytest.mark.django_db
def test_a_job_that_trains_runs_in_the_limited_child_and_is_cached(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    recipe = {
        "schema": "compress/1",
        "passes": [{"pass": "distill.student", "steps": 100}, {"pass": "quantize.static"}],
        "data": {"min_calibration": 100},
        "gates": {"max_accuracy_drop_points": 20.0},
        "limits": {"wall_seconds": 150, "memory_bytes": 1024**3, "threads": 1},
    }
    version = make_version()
    job = run_job(job_id=make_job(version, preset="", recipe=recipe).pk)
    assert job.state == JobState.PASSED, job.error or job.report["gates"]
    assert job.report["ratio"] > 5
    again = run_job(job_id=make_job(version, preset="", recipe=recipe).pk)
    assert all(note["is_cached"] for note in again.report["passes"])
    assert again.result_variant == job.result_variant


def keys(passes, **limits):
    document = {"schema": "compress/1", "passes": passes, "limits": limits}
    return step_keys("0" * 64, parse_recipe(document), "1" * 64)


def test_what_training_depends_on_is_in_the_key_of_its_step(monkeypatch):
    before = keys(PRUNED, threads=1)
    monkeypatch.setattr("compression.recipe.provenance.engine_versions", lambda: {"jax": "9.0"})
    upgraded = keys(PRUNED, threads=1)
    assert upgraded[:2] == before[:2]
    assert upgraded[2] != before[2]
    assert keys(PRUNED, threads=2)[2] != upgraded[2]
    assert keys(PRUNED, threads=2)[:2] == before[:2]
