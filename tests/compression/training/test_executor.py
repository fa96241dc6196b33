"""The executor: an engine computes what ONNX Runtime computes, and gives the same graph back."""

import numpy as np
import pytest

from compression.engine.training.executor import GraphExecutor
from compression.exceptions import ModelUnsupportedError
from compression.measure.sessions import open_session
from tests.factories.topologies import TOPOLOGIES, GraphMaker

STEP = 1e-3
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
    (found,) = executor.run({"x": x})
    assert np.abs(found - run_onnx(model, x)).max() <= 1e-4


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_gradient_of_every_topology_is_the_slope_that_steps_show(name):
    """Along a random direction, against the difference of ONNX Runtime's own answers."""
    model = make_graph(name)
    generator = np.random.default_rng(2)
    x = generator.normal(size=(5, 3, 8, 8)).astype(np.float32)
    executor = GraphExecutor(model)
    engine = executor.engine

    def measure(learned, feeds):
        outputs, _ = executor.compute({**executor.weights, **learned}, feeds)
        (found,) = outputs.values()
        return (found * found).mean(), None

    slopes = engine.compile(engine.differentiate(measure))
    (_, _), gradients = slopes(executor.parameters, {"x": engine.to_array(x)})
    gradients = {name: engine.to_numpy(value) for name, value in gradients.items()}
    assert set(gradients) == set(executor.parameters)
    start = executor.snapshot()
    # Along the gradient itself, where the slope stands out most.
    length = np.sqrt(sum(float((value**2).sum()) for value in gradients.values()))
    assert length > 0
    ways = {name: value / length for name, value in gradients.items()}
    losses = []
    for step in (STEP, -STEP):
        moved = {
            key: (value + step * ways[key]).astype(np.float32) if key in ways else value
            for key, value in start.items()
        }
        executor.restore(moved)
        answers = run_onnx(executor.write_back(), x).astype(np.float64)
        losses.append((answers**2).mean())
    assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(length, rel=0.05)


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
