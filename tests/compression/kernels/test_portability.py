"""Reports say on which processors a variant's accuracy holds, and what it is on each."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compression.admin.comparison_page import describe_sets
from compression.engine.run_recipe import run_chain
from compression.measure.gates import judge_saturation
from compression.measure.kernels.products import saturates_here
from compression.measure.portability import describe_saturation
from compression.measure.sessions import open_session
from compression.recipe.recipe import Gates, parse_recipe
from compression.report.comparison import figure_by_set, source_row, variant_row
from compression.services.results import require_isa
from tests.compression.test_comparison import ORIGIN
from tests.factories.compression import make_model, make_samples

ALL = ["avx2", "avx512", "vnni", "neon", "dotprod", "i8mm"]


def crowded_model():
    """Answers as before, with weights in pairs that are alike, so that their sums are large.

    Every channel of the second convolution's input comes twice, with half of the weight each.
    """
    model = make_model()
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, axis, share in (
        ("a_w", 0, 1.0), ("a_b", 0, 1.0), ("bn_s", 0, 1.0), ("bn_o", 0, 1.0), ("bn_m", 0, 1.0),
        ("bn_v", 0, 1.0), ("b_w", 1, 0.5),
    ):  # fmt: skip
        value = np.repeat(numpy_helper.to_array(tensors[name]), 2, axis=axis) * share
        tensors[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return model


def measure(tmp_path, passes, isa, *, gates=None, is_labelled=True):
    onnx.save(crowded_model(), str(tmp_path / "model.onnx"))
    for name, rows, seed in (("calibration", 200, 21), ("evaluation", 300, 22)):
        x, y = make_samples(rows, seed=seed, noise=2.0)
        arrays = {"x": x, "y": y} if is_labelled else {"x": x}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    recipe = {
        "schema": "compress/1",
        "passes": passes,
        "target": {"isa": isa},
        "data": {"min_calibration": 100},
        "gates": gates or {},
    }
    order = {
        "recipe": parse_recipe(recipe).to_json(),
        "source": "model.onnx",
        "calibration": "calibration.npz",
        "evaluation": "evaluation.npz",
        "done": [],
    }
    return run_chain(order, tmp_path, lambda *args, **values: None)


STATIC = [{"pass": "prepare"}, {"pass": "quantize.static", "first_layer": "int8"}]


def test_a_portable_variant_is_the_same_everywhere(tmp_path):
    report = measure(tmp_path, STATIC, "portable")
    (row,) = report["instruction_sets"]
    assert row["sets"] == ALL and not row["is_saturating"] and not row["is_computed"]
    assert row["accuracy"] == report["variant"]["accuracy"]
    assert report["requires_isa"] == [] and describe_saturation(report) == ""
    assert require_isa({"arch": ["x86_64"]}, report) == {"arch": ["x86_64"]}


def test_a_variant_for_vnni_tells_what_saturation_costs_and_who_is_offered_it(tmp_path):
    report = measure(tmp_path, STATIC, "x86-vnni")
    exact, saturated = report["instruction_sets"]
    assert exact["sets"] == ["vnni", "neon", "dotprod", "i8mm"]
    assert saturated["sets"] == ["avx2", "avx512"]
    assert exact["accuracy"] == report["variant"]["accuracy"]
    assert saturated["accuracy"]["value"] < exact["accuracy"]["value"]
    # One of the two is this machine's own, the other is computed.
    assert exact["is_computed"] == saturates_here() != saturated["is_computed"]
    figures = figure_by_set(report, "accuracy")
    assert figures["avx2"] == saturated["accuracy"]["value"]
    assert figures["vnni"] == exact["accuracy"]["value"]
    assert report["requires_isa"] == ["vnni"]
    assert require_isa({"arch": []}, report) == {"arch": [], "isa": ["vnni"]}
    (warning,) = [text for text in report["warnings"] if "saturate" in text]
    assert f"{100 * figures['avx2']:.1f} % of 300 answers are right there" in warning
    assert "offered to devices that report vnni alone" in warning


def test_the_figures_are_those_of_the_kernels_of_this_machine(tmp_path):
    report = measure(tmp_path, STATIC, "x86-vnni")
    x, y = make_samples(300, seed=22, noise=2.0)
    session = open_session(tmp_path / report["file"])
    own = float((session.run(None, {"x": x})[0].argmax(axis=1) == y).mean())
    here = figure_by_set(report, "accuracy")["avx2" if saturates_here() else "vnni"]
    assert here == pytest.approx(own, abs=1e-12)


def test_without_labels_agreement_is_told_by_set(tmp_path):
    report = measure(tmp_path, STATIC, "x86-vnni", gates={"min_agreement": 0.5}, is_labelled=False)
    figures = figure_by_set(report, "agreement")
    assert figures["avx2"] < figures["vnni"]
    assert set(figure_by_set(report, "accuracy").values()) == {None}
    assert f"{100 * figures['avx2']:.1f} % of 300 answers agree there" in describe_saturation(
        report
    )


def test_a_target_for_every_processor_fails_where_saturation_costs_too_much(tmp_path):
    report = measure(tmp_path, STATIC, "x86-vnni")
    lost = report["instruction_sets"][1]["accuracy_drop_points"]
    assert lost > 0.0
    verdict = judge_saturation(Gates(max_accuracy_drop_points=lost / 2), report, "portable")
    assert verdict is not None and not verdict.passed and verdict.measured == lost
    assert "lost by saturation on AVX2 and AVX-512 without VNNI" in verdict.sentence
    assert judge_saturation(Gates(max_accuracy_drop_points=lost), report, "x86-avx2").passed
    for target in ("x86-vnni", "arm64", "npu"):
        assert judge_saturation(Gates(), report, target) is None


def test_rows_of_the_comparison_name_the_figure_of_each_set(tmp_path):
    report = measure(tmp_path, STATIC, "x86-vnni")
    row = variant_row(report, **ORIGIN)
    assert row["saturates_on"] == ["avx2", "avx512"] and row["requires_isa"] == ["vnni"]
    text = describe_sets(row)
    assert "on avx2 without vnni, avx512 without vnni" in text
    assert "on vnni, neon, dotprod, i8mm" in text
    source = source_row(report, **ORIGIN | {"sha256": "cd"})
    assert set(source["accuracy_by_isa"]) == set(ALL)
    assert set(source["accuracy_by_isa"].values()) == {source["accuracy"]}
    assert describe_sets({**row, "accuracy_by_isa": {}}) == "not told by this report"


def test_both_name_sets_and_a_device_needs_one_of_both():
    needs = {"requires_isa": ["vnni", "neon"]}
    assert require_isa({"isa": ["neon", "avx2"]}, needs)["isa"] == ["neon"]
    assert require_isa({"isa": ["avx2"]}, needs)["isa"] == ["vnni", "neon"]
    assert require_isa({"isa": ["avx2"]}, {}) == {"isa": ["avx2"]}
