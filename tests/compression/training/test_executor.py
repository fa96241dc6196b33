"""The executor: PyTorch computes what ONNX Runtime computes, and gives the same graph back."""

import numpy as np
import pytest
import torch

from compression.engine.training.executor import GraphExecutor
from compression.exceptions import ModelUnsupportedError
from compression.measure.sessions import open_session
from tests.factories.topologies import TOPOLOGIES, GraphMaker

TRAINABLE = sorted(set(TOPOLOGIES) - {"unknown_operator"})


def make_graph(name):
    maker = GraphMaker(seed=3)
    return maker.model(TOPOLOGIES[name](maker))


def run_onnx(model, x):
    return open_session(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_topology_gives_what_onnx_runtime_gives(name):
    model = make_graph(name)
    x = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    executor = GraphExecutor(model)
    (found,) = executor.run({"x": torch.from_numpy(x)})
    assert np.abs(found.detach().numpy() - run_onnx(model, x)).max() <= 1e-4
    found.square().mean().backward()
    assert all(tensor.grad is not None for tensor in executor.parameters.values())


@pytest.mark.parametrize("name", TRAINABLE)
def test_writing_untrained_weights_back_changes_no_answer(name):
    model = make_graph(name)
    x = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
    written = GraphExecutor(model).write_back()
    assert np.array_equal(run_onnx(written, x), run_onnx(model, x))
    assert [node.op_type for node in written.graph.node] == [
        node.op_type for node in model.graph.node
    ]


def test_operators_without_a_rule_are_refused_by_name():
    with pytest.raises(ModelUnsupportedError, match="no rule for LRN, LpNormalization"):
        GraphExecutor(make_graph("unknown_operator"))
