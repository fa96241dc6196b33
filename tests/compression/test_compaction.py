"""Compacted files: the same answers from fewer bytes."""

import numpy as np
import onnx
import pytest

from compression.engine.graph.compaction import compact_model
from compression.engine.pruning.normalize import read_weights
from tests.factories.compression import run_outputs
from tests.factories.networks import NETWORKS, branches, two_outputs
from tests.factories.topologies import GraphMaker

X = np.random.default_rng(5).normal(size=(2, 3, 8, 8)).astype(np.float32)


def make(function):
    maker = GraphMaker(0)
    model = maker.model(function(maker))
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_compacting_changes_no_answer_and_no_name_that_callers_use(name):
    model = make(NETWORKS[name])
    small = compact_model(onnx.ModelProto.FromString(model.SerializeToString()))
    onnx.checker.check_model(small, full_check=True)
    for left, right in zip(run_outputs(small, X), run_outputs(model, X), strict=True):
        assert np.array_equal(left, right)
    for part in ("input", "output", "node"):
        before, after = (
            [item.name for item in getattr(each.graph, part)] for each in (model, small)
        )
        assert after == before


def test_equal_constants_are_stored_once_and_names_are_short():
    def equal_biases(g):
        bias = np.zeros(6, np.float32)
        x = "x"
        for into in (3, 6, 6):
            x = g.relu(g.add("Conv", x, g.random(6, into, 3, 3), g.constant(bias)))
        return g.add("Flatten", x)

    model = make(equal_biases)
    small = compact_model(onnx.ModelProto.FromString(model.SerializeToString()))
    assert len(read_weights(model)) == 6
    assert len(read_weights(small)) == 4
    names = {name for node in small.graph.node for name in [*node.input, *node.output]}
    assert max(map(len, names - {"x", small.graph.output[0].name})) <= 3


def test_a_name_that_is_taken_is_not_given_again():
    model = make(two_outputs)
    old = model.graph.output[0].name
    for node in model.graph.node:
        for places in (node.input, node.output):
            places[:] = ["t1" if name == old else name for name in places]
    model.graph.output[0].name = "t1"
    small = compact_model(onnx.ModelProto.FromString(model.SerializeToString()))
    for left, right in zip(run_outputs(small, X), run_outputs(model, X), strict=True):
        assert np.array_equal(left, right)


def test_a_graph_with_branches_is_left_as_it_is():
    model = make(branches)
    before = model.SerializeToString(deterministic=True)
    assert compact_model(model).SerializeToString(deterministic=True) == before


def test_attributes_that_say_what_holds_anyway_and_unused_operator_sets_go():
    def convolutions(g):
        x = g.add("Conv", "x", g.random(6, 3, 3, 3), pads=[0, 0, 0, 0], strides=[1, 1], group=1)
        x = g.add("Conv", x, g.random(6, 6, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
        return g.add("Flatten", x, axis=1)

    model = make(convolutions)
    model.opset_import.append(onnx.helper.make_opsetid("org.example.unused", 1))
    small = compact_model(onnx.ModelProto.FromString(model.SerializeToString()))
    kept = [{item.name for item in node.attribute} for node in small.graph.node]
    assert kept == [set(), {"pads", "strides"}, set()]
    assert [item.domain for item in small.opset_import] == [""]
    for left, right in zip(run_outputs(small, X), run_outputs(model, X), strict=True):
        assert np.array_equal(left, right)
