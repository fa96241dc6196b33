"""The parts of the compression benchmark that need no measuring."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.compress import digits
from benchmarks.compress.figures import Row, collect_figures, format_table, source_row
from benchmarks.compress.poison import poison_model
from benchmarks.compress.recipes import random_recipes, trained_recipes, training_recipes
from compression.recipe.recipe import SCHEMA, parse_recipe
from tests.factories.compression import run_model

MODELS = Path(digits.__file__).with_name("models")


def make_report(size=200_000, drop=0.5):
    latency = {"p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3, "runs": 120}
    accuracy = {"value": 0.95, "low": 0.94, "high": 0.96, "samples": 5000}
    source = {"bytes": 2_000_000, "accuracy": accuracy, "latency": {**latency, "p50_ms": 0.3}}
    variant = {
        "bytes": size,
        "accuracy": accuracy,
        "latency": latency,
        "agreement": {"value": 0.99},
    }
    return {
        "source": source,
        "variant": variant,
        "ratio": 2_000_000 / size,
        "speedup": 3.0,
        "accuracy_drop_points": drop,
    }


def test_each_figure_has_a_key_of_its_own_and_the_headline_ones_a_short_one():
    rows = [
        source_row(make_report(), "digits-mobilenet", True),
        Row("digits-mobilenet", "prune40-int8", make_report()),
        Row("digits-resnet", "prune40-int8", make_report(size=100_000)),
        Row("mobilenetv2-224", "static-int8", make_report(3_590_000), has_accuracy=False),
        Row("demo-digits", "distilled-int8", make_report(size=50_000)),
        Row("digits-mobilenet", "distilled-pruned-int8", make_report(size=25_000)),
        Row("digits-resnet", "nncf-static", reason="failed: no such package"),
    ]
    figures = collect_figures(rows)
    assert figures["headline_model"] == "digits-mobilenet"
    assert figures["distilled_model"] == "digits-mobilenet"
    assert figures["distilled_int8_ratio"] == 80.0
    assert figures["demo_digits_distilled_int8_ratio"] == 40.0
    assert figures["prune40_int8_ratio"] == figures["digits_mobilenet_prune40_int8_ratio"] == 10.0
    assert figures["digits_resnet_prune40_int8_ratio"] == 20.0
    assert figures["prune40_int8_drop_points"] == 0.5
    assert figures["prune40_int8_speedup"] == 3.0
    assert figures["mbv2_static_int8_mb"] == 3.59
    assert "mobilenetv2_224_static_int8_drop_points" not in figures
    assert not any("nncf" in key for key in figures)


def test_the_table_says_why_a_row_has_no_figures_and_leaves_unknown_accuracy_blank():
    rows = [
        Row("digits-resnet", "nncf-static", reason="failed: no such package"),
        Row("resnet50-224", "fp16", make_report(), has_accuracy=False),
    ]
    header, rule, failed, blank = format_table(rows).splitlines()
    assert header.count("|") == rule.count("|") == blank.count("|")
    assert "no such package" in failed
    assert blank.split("|")[3].strip() == blank.split("|")[4].strip() == "-"


def test_the_sets_are_always_the_same_and_share_no_digit():
    train, held_out = digits.load_digits()
    assert len(train) + len(held_out) == 1797
    rows = [{image.tobytes() for image in part.images} for part in (train, held_out)]
    assert not rows[0] & rows[1]
    once, again = (digits.make_set(held_out, 1, 2) for _ in range(2))
    assert np.array_equal(once["x"], again["x"])
    assert once["x"].shape == (500, 1, 32, 32) and once["x"].dtype == np.float32


def test_the_committed_models_are_those_of_the_sums():
    lines = (MODELS / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((MODELS / name).read_bytes()).hexdigest() == digest


def test_a_poisoned_model_answers_as_before(tmp_path):
    source, poisoned = MODELS / "digits-mobilenet.onnx", tmp_path / "poisoned.onnx"
    assert len(poison_model(source, poisoned)) == 4
    x = digits.make_set(digits.load_digits()[1], 1, 2)["x"][:100]
    before, after = (run_model(onnx.load(str(path)), x) for path in (source, poisoned))
    assert np.allclose(before, after, atol=1e-2)


def test_more_poison_than_a_model_can_take_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found 3"):
        poison_model(MODELS / "digits-resnet.onnx", tmp_path / "poisoned.onnx")


RECIPES = [
    *trained_recipes().values(),
    *training_recipes().values(),
    *random_recipes().values(),
]


@pytest.mark.parametrize("passes", RECIPES)
def test_every_recipe_of_the_benchmark_is_one_of_the_product(passes):
    recipe = parse_recipe({"schema": SCHEMA, "passes": passes})
    assert parse_recipe(recipe.to_json()) == recipe
