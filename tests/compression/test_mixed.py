"""Mixed precision: what breaks under INT8 is found and left out, and little else."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from compression.arrays import Samples
from compression.parameters import PASSES
from compression.passes.context import PassContext
from compression.passes.mixed_plan import find_excluded, rank_nodes
from compression.passes.prepare import prepare_file
from compression.passes.table import RUNNERS
from tests.factories.compression import make_model, make_samples, run_model


def poison(model):
    """One channel a hundred thousand times larger, undone by its reader: INT8 loses the others."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    changes = {"d_w": (0, 1e5), "d_b": (0, 1e5)}
    for name, (row, factor) in changes.items():
        value = numpy_helper.to_array(weights[name]).copy()
        value[row] *= factor
        weights[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    head = numpy_helper.to_array(weights["head_w"]).copy()
    head[:, :9] *= 1e-5
    weights["head_w"].CopyFrom(numpy_helper.from_array(head.astype(np.float32), "head_w"))
    return model


def run_pass(tmp_path, model, name):
    onnx.save(model, str(tmp_path / "original.onnx"))
    prepare_file(tmp_path / "original.onnx", tmp_path / "prepared.onnx")
    x, y = make_samples(200, seed=11)
    defaults = {key: rule.default for key, rule in PASSES[name].parameters.items()}
    context = PassContext(
        source=tmp_path / "prepared.onnx",
        destination=tmp_path / "out.onnx",
        original=tmp_path / "original.onnx",
        scratch=tmp_path,
        parameters=defaults,
        calibration=Samples({"x": x}, y),
    )
    return RUNNERS[name](context), tmp_path / "out.onnx"


def accuracy(path):
    x, y = make_samples(500, seed=12)
    return float((run_model(onnx.load(str(path)), x).argmax(axis=1) == y).mean())


@pytest.mark.parametrize("is_poisoned", [False, True])
def test_only_nodes_that_suffer_are_left_out(is_poisoned, tmp_path):
    model = poison(make_model()) if is_poisoned else make_model()
    result, path = run_pass(tmp_path, model, "mixed.search")
    full = tmp_path / "prepared.onnx"
    assert accuracy(path) >= accuracy(full) - 0.02
    assert bool(result.excluded) == is_poisoned
    assert result.facts["excluded"] < result.facts["nodes"] / 2
    assert path.stat().st_size < full.stat().st_size / 2.4
    if is_poisoned:
        _, static = run_pass(tmp_path, model, "quantize.static")
        assert accuracy(static) < accuracy(full) - 0.1


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
