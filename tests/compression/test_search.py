"""Search under constraints on a real model: an answer in time, and an honest one."""

import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from compression.engine.passes.search_best import split_samples
from compression.engine.run_recipe import run_chain
from compression.engine.search.deadline import interrupt_after
from compression.exceptions import BudgetSpentError
from compression.measure.samples import Samples
from compression.measure.sessions import open_session
from compression.recipe.presets import get_preset
from compression.recipe.recipe import merge_recipe, parse_recipe
from compression.services.running import run_job
from compression.states import JobState
from tests.factories.compression import make_job, make_model, make_samples, make_version

DEMO = Path(__file__).resolve().parent.parent.parent / "demo" / "data"
QUICK = {"pass": "search.best", "max_ratio": 0.4, "train": False}


def search(folder, *, gates, seconds=60, objective="size", step=QUICK, evaluation="eval.npz"):
    folder.mkdir(exist_ok=True)
    files = {"source": "digits-cnn-1.1.0.onnx", "calibration": "calibration.npz"}
    for name in (*files.values(), "eval.npz"):
        shutil.copy(DEMO / name, folder / name)
    recipe = merge_recipe(
        get_preset("best").recipe,
        {
            "gates": gates,
            "search": {"seconds": seconds, "objective": objective},
            "passes": [{"pass": "prepare"}, step],
        },
    )
    document = parse_recipe(recipe).to_json()
    order = {"recipe": document, "evaluation": evaluation, "done": [], **files}
    return run_chain(order, folder, lambda *args, **values: None)


@pytest.fixture(scope="module")
def feasible(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feasible")
    return folder, search(folder, gates={"max_bytes": 50_000, "max_accuracy_drop_points": 1.0})


def test_a_feasible_search_recommends_what_passes_on_the_full_set(feasible):
    folder, report = feasible
    found = report["search"]
    assert report["outcome"] == "passed"
    by_name = {item["name"]: item for item in found["candidates"]}
    chosen = by_name[found["recommended"]]
    assert chosen["is_feasible"] and chosen["judged_on"] == "full"
    assert (chosen["bytes"], chosen["accuracy"]) == (
        report["variant"]["bytes"],
        report["variant"]["accuracy"]["value"],
    )
    assert chosen["bytes"] <= 50_000
    others = [
        item
        for item in found["candidates"]
        if item["is_feasible"] and item["passes"] and item["held_out_drop_points"] <= 1.0
    ]
    assert found["chosen_on"] == "held_out" and not found["passed_over"]
    assert chosen["bytes"] == min(item["bytes"] for item in others)
    assert "held-out rows, which chose it" in found["sentence"]
    assert found["recommended"] in found["sentence"]
    assert open_session(folder / report["file"])


def test_the_report_holds_every_candidate_with_what_became_of_it(feasible):
    found = feasible[1]["search"]
    assert {"int8-qdq", "int8-qoperator", "w8", "dynamic", "w16", "fp16", "mixed"} <= {
        item["name"].split("+")[-1] for item in found["candidates"] + found["skipped"]
    }
    assert {item["name"].split("+")[0] for item in found["candidates"]} >= {"fp32", "p20", "p40"}
    for item in found["candidates"]:
        assert item["reason"] or item["is_feasible"], item
        assert item["p50_ms"] or item["judged_on"] == "subset"
        assert not item["is_on_front"] or item["judged_on"] == "full"
    assert all(item["reason"] for item in found["skipped"])
    assert any(item["is_on_front"] for item in found["candidates"])
    assert found["constraints"] == {"max_bytes": 50_000, "max_accuracy_drop_points": 1.0}


def test_the_recommended_passes_are_a_recipe_of_their_own(feasible):
    found = feasible[1]["search"]
    chosen = next(i for i in found["candidates"] if i["name"] == found["recommended"])
    recipe = parse_recipe({"schema": "compress/1", "passes": chosen["passes"]})
    assert [step.name for step in recipe.passes]


def test_the_same_seed_gives_the_same_answer(feasible, tmp_path):
    first = feasible[1]
    again = search(tmp_path, gates={"max_bytes": 50_000, "max_accuracy_drop_points": 1.0})
    names = [[item["name"] for item in r["search"]["candidates"]] for r in (first, again)]
    assert names[0] == names[1]
    assert first["passes"][-1]["sha256"] == again["passes"][-1]["sha256"]


def test_constraints_that_nothing_keeps_are_answered_with_the_closest(tmp_path):
    report = search(
        tmp_path,
        gates={"max_bytes": 3_000, "max_accuracy_drop_points": 1.0},
        objective="latency",
        step={**QUICK, "max_ratio": 0.2},
    )
    found = report["search"]
    assert report["outcome"] == "failed_gate"
    assert found["recommended"] is None
    assert found["sentence"].startswith("No candidate keeps every constraint. The closest is")
    assert any(item["is_on_front"] for item in found["candidates"])
    assert not next(g for g in report["gates"] if g["gate"] == "search.best")["passed"]


def test_a_budget_too_short_for_all_still_gets_an_answer(tmp_path):
    report = search(
        tmp_path,
        gates={"max_accuracy_drop_points": 1.0},
        seconds=1,
        step={"pass": "search.best", "train": False},
    )
    found = report["search"]
    assert found["recommended"]
    assert any("time" in item["reason"] for item in found["skipped"])


def test_without_labels_agreement_takes_the_place_of_accuracy(tmp_path):
    x = np.load(DEMO / "eval.npz")["x"]
    np.savez(tmp_path / "unlabelled.npz", x=x)
    report = search(
        tmp_path,
        gates={"min_agreement": 0.98},
        step={**QUICK, "max_ratio": 0.0},
        evaluation="unlabelled.npz",
    )
    rows = [item for item in report["search"]["candidates"] if item["judged_on"] == "full"]
    assert report["outcome"] == "passed"
    assert all(item["accuracy_drop_points"] is None for item in rows)
    assert all(item["agreement"] > 0.98 for item in rows)


def test_fitting_and_selection_rows_are_disjoint_and_fixed_by_the_seed():
    x = np.arange(100, dtype=np.float32).reshape(100, 1)
    fitting, selection = split_samples(Samples({"x": x}, np.arange(100)), 3)
    assert not set(fitting.labels) & set(selection.labels)
    assert len(fitting) + len(selection) == 100
    assert (split_samples(Samples({"x": x}, None), 3)[1].inputs["x"] == selection.inputs["x"]).all()


def test_a_pass_that_takes_too_long_is_interrupted_and_the_outer_timer_goes_on():
    fired = []
    with pytest.raises(BudgetSpentError), interrupt_after(30):
        with pytest.raises(BudgetSpentError), interrupt_after(0.05):
            while True:
                time.sleep(0.01)
        fired.append("inner")
        with interrupt_after(0):
            fired.append("never")
    assert fired == ["inner"]


def test_the_winner_is_a_valid_model(feasible):
    folder, report = feasible
    onnx.checker.check_model(str(folder / report["file"]))


@pytest.mark.django_db
def test_a_search_runs_as_a_job_and_its_winner_becomes_a_variant(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    recipe = {
        "passes": [{"pass": "prepare"}, {**QUICK, "max_ratio": 0.0}],
        "search": {"seconds": 30, "objective": "size"},
    }
    job = run_job(job_id=make_job(make_version(), preset="best", recipe=recipe).pk)
    assert job.state == JobState.PASSED, job.error or job.report["gates"]
    assert job.result_variant.name == "best"
    assert job.report["search"]["recommended"]


# Pruned by 40 % and INT8 the model takes 8,282 bytes.
SMALL = {"max_bytes": 6_000, "max_accuracy_drop_points": 3.0}
TRAINING = {**QUICK, "train": True, "training_steps": 40}
FEW = {"seconds": 600, "objective": "latency", "trials": 3}


def run_shapes(folder, passes, **sections):
    """The report of a recipe on a small model with its own two sets."""
    onnx.save(make_model(), str(folder / "source.onnx"))
    for name, rows, seed in (("calibration", 300, 3), ("evaluation", 600, 2)):
        x, y = make_samples(rows, seed)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    document = {
        "schema": "compress/1",
        "passes": passes,
        "data": {"min_calibration": 100},
        "gates": SMALL,
        **sections,
    }
    order = {
        "recipe": parse_recipe(document).to_json(),
        "source": "source.onnx",
        "calibration": "calibration.npz",
        "evaluation": "evaluation.npz",
        "done": [],
    }
    return run_chain(order, folder, lambda *args, **values: None)


def chosen_of(found):
    return next(item for item in found["candidates"] if item["name"] == found["recommended"])


def test_a_trained_student_wins_where_nothing_else_is_small_enough(tmp_path):
    report = run_shapes(tmp_path, [{"pass": "prepare"}, TRAINING], search=FEW)
    found = report["search"]
    assert report["outcome"] == "passed"
    chosen = chosen_of(found)
    assert chosen["name"].startswith("student17.34x+")
    assert chosen["judged_on"] == "full" and chosen["bytes"] <= SMALL["max_bytes"]
    skipped = {item["name"]: item["reason"] for item in found["skipped"]}
    assert "needs at least" in skipped["p40+int8-qoperator"]
    assert "search.trials" in skipped["student"]
    # What won is a recipe of its own, with the steps there was time for.
    (trained,) = [step for step in chosen["passes"] if step["pass"] == "distill.student"]
    assert trained["blocks"] == "pruned" and 1 <= trained["steps"] <= 40
    again = run_shapes(tmp_path, chosen["passes"])
    assert again["outcome"] == "passed"
    facts = next(note["facts"] for note in again["passes"] if note["pass"] == "distill.student")
    assert facts["steps"] == trained["steps"]


@pytest.mark.django_db
def test_a_job_goes_from_constraints_to_a_trained_variant(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    recipe = {"passes": [{"pass": "prepare"}, TRAINING], "gates": SMALL, "search": FEW}
    job = run_job(job_id=make_job(make_version(), preset="best", recipe=recipe).pk)
    assert job.state == JobState.PASSED, job.error or job.report["gates"]
    chosen = chosen_of(job.report["search"])
    assert "distill.student" in {step["pass"] for step in chosen["passes"]}
    assert job.result_variant.name == "best"
    assert job.report["variant"]["bytes"] == chosen["bytes"] <= SMALL["max_bytes"]
