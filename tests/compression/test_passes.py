"""Passes over files: smaller, and still the same model."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization.calibrate import load_tensors_data

from compression.engine.passes.calibration import bound_chunk, calibrate
from compression.engine.passes.prepare import prepare_file
from compression.engine.passes.static import find_narrow_entries
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.samples import Samples, check_disjoint
from compression.recipe.recipe import ISA_NAMES, Target
from tests.factories.compression import make_model, make_samples, run_model
from tests.factories.passes import run_pass
from tests.factories.topologies import GraphMaker


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    onnx.save(make_model(), str(folder / "original.onnx"))
    prepare_file(folder / "original.onnx", folder / "prepared.onnx")
    return folder


def run_prepared(prepared, tmp_path, name, target=None, **parameters):
    x, y = make_samples(200, seed=11)
    return run_pass(
        name,
        prepared / "prepared.onnx",
        tmp_path,
        parameters=parameters,
        original=prepared / "original.onnx",
        target=target or Target(),
        calibration=Samples({"x": x}, y),
    )


def accuracy(path):
    x, y = make_samples(500, seed=12)
    return float((run_model(onnx.load(str(path)), x).argmax(axis=1) == y).mean())


def test_preparing_folds_the_batch_norm_and_keeps_the_answers(prepared):
    before, after = (onnx.load(str(prepared / f"{n}.onnx")) for n in ("original", "prepared"))
    assert "BatchNormalization" not in {node.op_type for node in after.graph.node}
    assert not after.graph.value_info
    x, _ = make_samples(50, seed=13)
    assert np.allclose(run_model(before, x), run_model(after, x), atol=1e-3)


CASES = {
    "dynamic": ("quantize.dynamic", {}, 2.5),
    "static": ("quantize.static", {}, 2.5),
    "static, operators": ("quantize.static", {"format": "qoperator"}, 2.5),
    "static, percentile": ("quantize.static", {"method": "percentile"}, 2.5),
    "weights, 8 bits": ("quantize.weights", {"bits": 8}, 3.0),
    "weights, 16 bits": ("quantize.weights", {"bits": 16}, 1.7),
    "half": ("convert.fp16", {}, 1.8),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pass_makes_the_file_smaller_and_keeps_the_accuracy(case, prepared, tmp_path):
    name, parameters, ratio = CASES[case]
    _, path = run_prepared(prepared, tmp_path, name, **parameters)
    assert (prepared / "prepared.onnx").stat().st_size / path.stat().st_size > ratio
    assert accuracy(path) >= accuracy(prepared / "prepared.onnx") - 0.02


@pytest.mark.parametrize("isa", ISA_NAMES)
def test_every_isa_preset_quantizes(isa, prepared, tmp_path):
    result, path = run_prepared(prepared, tmp_path, "quantize.static", target=Target(isa=isa))
    assert accuracy(path) > 0.9
    assert result.facts["symmetric"] == (isa == "npu")


@pytest.mark.parametrize(("isa", "is_wide"), [("portable", True), ("npu", False)])
def test_a_first_convolution_of_few_products_stays_fp32_on_x86(isa, is_wide, prepared, tmp_path):
    target = Target(isa=isa)
    first = next(
        node.name
        for node in onnx.load(str(prepared / "prepared.onnx")).graph.node
        if node.op_type == "Conv"
    )
    result, path = run_prepared(prepared, tmp_path, "quantize.static", target=target)
    assert list(result.excluded) == ([first] if is_wide else [])
    operators = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert ("Conv" in operators) == (is_wide or isa == "npu")
    result, path = run_prepared(
        prepared, tmp_path, "quantize.static", target=target, first_layer="int8"
    )
    assert not result.excluded
    assert accuracy(path) > 0.9


@pytest.mark.parametrize(("kernel", "is_narrow"), [(3, True), (7, False)])
def test_a_first_layer_is_narrow_by_its_products_per_value(kernel, is_narrow):
    maker = GraphMaker()
    graph = maker.model(maker.head(maker.relu(maker.conv("x", 3, 8, kernel)), 8))
    graph.graph.node[0].name = "stem"
    assert find_narrow_entries(graph.graph) == (["stem"] if is_narrow else [])


def test_fewer_rows_than_a_chunk_are_enough_to_calibrate(prepared, tmp_path):
    result, path = run_prepared(prepared, tmp_path, "quantize.static", samples=20, chunk=64)
    assert result.facts["samples"] == 20
    assert accuracy(path) > 0.9


def test_quantizing_twice_gives_the_same_bytes(prepared, tmp_path):
    contents = []
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        contents.append(run_prepared(prepared, folder, "quantize.static")[1].read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("allocation", ["uniform", "sensitivity"])
def test_structured_pruning_with_repair_keeps_the_accuracy(allocation, prepared, tmp_path):
    result, path = run_prepared(
        prepared, tmp_path, "prune.structured", ratio=0.4, allocation=allocation
    )
    facts = result.facts
    assert facts["parameters_after"] < 0.75 * facts["parameters_before"]
    assert facts["repaired"] >= 4
    assert accuracy(path) >= accuracy(prepared / "prepared.onnx") - 0.02


def test_a_graph_is_measured_once_for_many_ratios(prepared, tmp_path, monkeypatch):
    run_prepared(prepared, tmp_path, "prune.structured", ratio=0.2)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    _, alone = run_prepared(prepared, fresh, "prune.structured", ratio=0.5)

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("compression.engine.pruning.pruner.mean_divergence", refuse)
    _, path = run_prepared(prepared, tmp_path, "prune.structured", ratio=0.5)
    assert path.read_bytes() == alone.read_bytes()


def test_repair_brings_back_what_pruning_alone_loses(prepared, tmp_path):
    options = {"ratio": 0.7, "allocation": "uniform", "align": 1, "min_keep": 2}
    _, path = run_prepared(prepared, tmp_path, "prune.structured", repair=False, **options)
    raw = accuracy(path)
    _, path = run_prepared(prepared, tmp_path, "prune.structured", **options)
    assert accuracy(path) > raw


def test_pruning_that_would_remove_nothing_is_refused(prepared, tmp_path):
    with pytest.raises(ModelUnsupportedError, match="at least 32; the widest group has 32"):
        run_prepared(prepared, tmp_path, "prune.structured", ratio=0.1, min_keep=32)


def test_unstructured_pruning_says_that_it_saves_nothing(prepared, tmp_path):
    result, path = run_prepared(prepared, tmp_path, "prune.unstructured", ratio=0.3)
    assert result.facts["zeroed"] == pytest.approx(0.3, abs=0.01)
    assert path.stat().st_size == pytest.approx((prepared / "prepared.onnx").stat().st_size, 0.01)
    assert "stay" in result.facts["note"]


def test_half_precision_keeps_a_region_beyond_its_range_whole(prepared, tmp_path):
    model = onnx.load(str(prepared / "prepared.onnx"))
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, factor in ((first.input[1], 1e5), (first.input[2], 1e5), (second.input[1], 1e-5)):
        value = (numpy_helper.to_array(weights[name]) * np.float32(factor)).astype(np.float32)
        weights[name].CopyFrom(numpy_helper.from_array(value, name))
    x, _ = make_samples(100, seed=14)
    expected = run_model(model, x)
    onnx.save(model, str(tmp_path / "prepared.onnx"))
    result, path = run_prepared(tmp_path, tmp_path, "convert.fp16")
    assert first.name in result.excluded
    assert "do not fit FP16" in result.excluded[first.name]
    got = run_model(onnx.load(str(path)), x)
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_sets_that_share_rows_are_refused():
    x, _ = make_samples(20, seed=1)
    with pytest.raises(DataSetUnusableError, match="share 5 rows"):
        check_disjoint(Samples({"x": x[:10]}, None), Samples({"x": x[5:]}, None))


def test_calibration_takes_fewer_rows_at_a_time_where_activations_are_large(prepared, tmp_path):
    graph = GraphMaker()
    model = graph.model(graph.head(graph.relu(graph.conv("x", 3, 64)), 64))
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 512
    onnx.save(model, str(tmp_path / "large.onnx"))
    assert bound_chunk(tmp_path / "large.onnx", 64) == 1
    assert bound_chunk(prepared / "prepared.onnx", 64) == 64


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_calibration_in_chunks_finds_what_it_finds_at_once(method, prepared, tmp_path):
    x, _ = make_samples(70, seed=21)
    ranges = []
    for chunk in (16, 128):
        parameters = {"method": method, "percentile": 99.9, "chunk": chunk}
        found = calibrate(
            prepared / "prepared.onnx",
            Samples({"x": x}, None),
            tmp_path,
            parameters=parameters,
            is_symmetric=False,
        )
        loaded = load_tensors_data(found.path)
        ranges.append([np.ravel(loaded[name].range_value) for name in sorted(loaded.keys())])
    worst = max(np.abs(a - b).max() / np.ptp(b) for a, b in zip(*ranges, strict=True))
    assert worst < {"minmax": 1e-6, "percentile": 0.15, "entropy": 0.4}[method]
