"""Mixed precision: what breaks under INT8 is found and left out, and little else."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from compression.engine.passes.calibration import calibrate
from compression.engine.passes.ladder import RUNGS, apply_rung
from compression.engine.passes.mixed_plan import find_excluded, rank_nodes
from compression.engine.passes.prepare import prepare_file
from compression.measure.samples import Samples
from compression.recipe.recipe import Target
from tests.factories.compression import make_model, make_samples, run_model
from tests.factories.passes import run_pass


def scale(weights, name, axis, index, factor):
    value = numpy_helper.to_array(weights[name]).copy()
    rows = [slice(None)] * value.ndim
    rows[axis] = index
    value[tuple(rows)] *= factor
    weights[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def poison(model, pairs=1):
    """One channel a hundred thousand times larger, undone by its reader: INT8 loses the others."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in ("d_w", "d_b"):
        scale(weights, name, 0, 0, 1e5)
    scale(weights, "head_w", 1, slice(0, 9), 1e-5)
    if pairs == 2:
        for name in ("bn_s", "bn_o"):
            scale(weights, name, 0, 0, 1e5)
        scale(weights, "b_w", 1, 0, 1e-5)
    return model


def compress(tmp_path, model, name, target=None, **parameters):
    x, y = make_samples(200, seed=11)
    return run_pass(
        name,
        model,
        tmp_path,
        parameters=parameters,
        target=target or Target(),
        calibration=Samples({"x": x}, y),
    )


def accuracy(path):
    x, y = make_samples(500, seed=12)
    return float((run_model(onnx.load(str(path)), x).argmax(axis=1) == y).mean())


@pytest.mark.parametrize("is_poisoned", [False, True])
def test_only_nodes_that_suffer_are_left_out(is_poisoned, tmp_path):
    model = poison(make_model()) if is_poisoned else make_model()
    result, path = compress(tmp_path, model, "mixed.search")
    full = tmp_path / "prepared.onnx"
    assert accuracy(path) >= accuracy(full) - 0.02
    assert bool(result.excluded) == is_poisoned
    assert result.facts["excluded"] < result.facts["nodes"] / 2
    assert path.stat().st_size < full.stat().st_size / 2.4
    if is_poisoned:
        _, static = compress(tmp_path, model, "quantize.static")
        assert accuracy(static) < accuracy(full) - 0.1


def test_several_poisoned_regions_are_found_and_the_rest_stays_int8(tmp_path):
    model = poison(make_model(), pairs=2)
    result, path = compress(tmp_path, model, "mixed.search")
    full = tmp_path / "prepared.onnx"
    assert accuracy(path) >= accuracy(full) - 0.02
    found = set(result.excluded)
    assert any(name.startswith("Conv") for name in found)
    assert result.facts["excluded"] < result.facts["nodes"]
    operators = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert operators.count("QuantizeLinear") >= 2
    _, static = compress(tmp_path, model, "quantize.static")
    assert accuracy(static) < accuracy(full) - 0.1


@pytest.mark.parametrize("ladder", [[], ["w16"], ["a16w8"], ["w8", "w16"]])
def test_each_rung_of_the_ladder_keeps_the_accuracy(ladder, tmp_path):
    result, path = compress(tmp_path, poison(make_model()), "mixed.search", ladder=ladder)
    assert accuracy(path) >= accuracy(tmp_path / "prepared.onnx") - 0.02
    assert set(result.facts["rungs"]) <= {"fp32", *ladder}
    onnx.checker.check_model(str(path))


def test_an_npu_gets_16_bit_activations_where_8_do_harm(tmp_path):
    target = Target(isa="npu")
    result, path = compress(tmp_path, poison(make_model()), "mixed.search", target=target)
    assert result.facts["rungs"].get("a16w8")
    names = {tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}
    assert onnx.TensorProto.UINT16 in names
    assert accuracy(path) >= accuracy(tmp_path / "prepared.onnx") - 0.02


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_changes_its_node_alone_and_only_a_little(rung, tmp_path):
    onnx.save(make_model(), str(tmp_path / "raw.onnx"))
    source = tmp_path / "model.onnx"
    prepare_file(tmp_path / "raw.onnx", source)
    x, _ = make_samples(64, seed=5)
    parameters = {"method": "minmax", "percentile": 99.99, "chunk": 64}
    ranges = calibrate(
        source, Samples({"x": x}, None), tmp_path, parameters=parameters, is_symmetric=False
    )
    model = onnx.load(str(source))
    node = next(node.name for node in model.graph.node if node.op_type == "Gemm")
    before = run_model(model, x)
    assert apply_rung(model, node, rung, ranges.path)
    onnx.checker.check_model(model)
    assert 0 < np.abs(run_model(model, x) - before).max() < 0.02 * np.abs(before).max()
    kinds = [tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1]
    assert len(set(kinds)) == 2 and kinds.count(onnx.TensorProto.FLOAT) == len(kinds) - 1


def test_a_model_that_int8_does_not_hurt_is_not_ranked_at_all(tmp_path):
    result, _ = compress(tmp_path, make_model(), "mixed.search")
    assert (result.facts["trials"], result.facts["excluded"]) == (1, 0)


def test_nodes_are_ranked_by_harm_per_byte():
    ranked = rank_nodes({"a": 1.0, "b": 0.5, "c": 0.0}, {"a": 1000, "b": 10, "c": 0})
    assert ranked == ["b", "a", "c"]


@given(
    st.integers(0, 30).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0))))
    )
)
def test_exactly_the_needed_nodes_are_left_out(case):
    count, needed = case
    ranked = [str(index) for index in range(count)]
    wanted = {str(index) for index in needed if index < count}
    excluded = find_excluded(ranked, lambda names: wanted <= set(names))
    assert set(excluded) == wanted


def test_a_model_that_is_never_good_has_no_plan():
    assert find_excluded(["a", "b", "c"], lambda names: False) is None
