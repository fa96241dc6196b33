"""Structured pruning: what is removed changes nothing but what read it."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compression.arrays import Samples
from compression.pruning.graph import PruningGraph
from compression.pruning.importance import rank_group, weigh_axes
from compression.pruning.normalize import count_parameters
from compression.pruning.selection import allocate_ratios, choose_classes
from compression.pruning.slots import SlotTable
from compression.pruning.surgery import drop_classes, mask_classes
from tests.factories.compression import run_model
from tests.factories.topologies import TOPOLOGIES, GraphMaker

X = np.random.default_rng(3).normal(size=(3, 3, 8, 8)).astype(np.float32)


def make_graph(name, seed=0):
    maker = GraphMaker(seed)
    model = maker.model(TOPOLOGIES[name](maker))
    onnx.checker.check_model(model, full_check=True)
    return model, PruningGraph(model)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_normalizing_changes_no_output(name):
    model, graph = make_graph(name)
    assert np.allclose(run_model(model, X), run_model(graph.model, X), atol=1e-6)


@pytest.mark.parametrize("name", TOPOLOGIES)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_pruned_model_equals_the_masked_one(name, data):
    _, graph = make_graph(name)
    groups = graph.find_groups()
    assert groups, "every topology has something to prune"
    dropped = set()
    for group in groups:
        roots = sorted(group.classes)
        some = data.draw(st.lists(st.sampled_from(roots), max_size=len(roots) - 1, unique=True))
        dropped.update(some)
    pruned = drop_classes(graph, dropped)
    got, expected = run_model(pruned.model, X), run_model(mask_classes(graph, dropped), X)
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(got - expected).max() <= 1e-6 * scale
    if dropped:
        assert count_parameters(pruned.model) < count_parameters(graph.model)


def test_an_operator_that_is_not_understood_pins_what_it_reads_and_nothing_else():
    _, graph = make_graph("unknown_operator")
    assert {"LpNormalization", "LRN"} <= set(graph.table.pin_reasons)
    first = next(node for node in graph.model.graph.node if node.op_type == "Conv")
    axes = {axis for group in graph.find_groups() for axis in group.axes}
    assert (first.input[1], 0) not in axes


def test_a_residual_sum_ties_both_of_its_sides():
    _, graph = make_graph("residual")
    convs = [node for node in graph.model.graph.node if node.op_type == "Conv"]
    first, last = (graph.weight_slots[convs[index].input[1], 0] for index in (0, 2))
    find = graph.table.find
    assert [find(int(slot)) for slot in first] == [find(int(slot)) for slot in last]


def test_kept_widths_are_aligned_and_never_below_the_minimum():
    importance = {index: float(index) for index in range(32)}
    dropped = choose_classes([importance], [0.4], align=8, min_keep=8)
    assert dropped == set(range(8))  # 19.2 of 32 are wanted, 24 are kept
    assert len(choose_classes([importance], [0.99], align=8, min_keep=8)) == 24
    narrow = dict.fromkeys(range(6), 1.0)
    assert choose_classes([narrow], [0.5], align=8, min_keep=8) == set()


def test_the_group_that_costs_least_is_narrowed_first():
    ratios = allocate_ratios(
        2,
        80,
        cost_of=lambda index, step: step * (10.0 if index == 0 else 0.1),
        parameters_of=lambda ratios: int(100 - 40 * sum(ratios)),
        saving_of=lambda index, step: int(40 * step),
    )
    assert ratios == [0.0, 0.5]


def test_importance_prefers_channels_that_are_read_strongly():
    _, graph = make_graph("plain")
    samples = Samples({"x": X}, None)
    (group, *_) = graph.find_groups()
    importance = rank_group(graph, group, weigh_axes(graph, samples))
    weight, axis = next(item for item in group.axes if "in" in graph.roles[item])
    strongest = max(importance, key=importance.get)
    graph.weights[weight] = graph.weights[weight] * 1.0
    moved = np.moveaxis(graph.weights[weight], axis, 0)
    weakest = min(importance, key=importance.get)
    index = next(m.index for m in group.classes[weakest] if (m.weight, m.axis) == (weight, axis))
    moved[index] *= 1000.0
    again = rank_group(graph, group, weigh_axes(graph, samples))
    assert max(again, key=again.get) == weakest != strongest


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_uniting_slots_gives_the_connected_components(pairs):
    table = SlotTable()
    table.make(20)
    neighbours = {index: {index} for index in range(20)}
    for left, right in pairs:
        table.unite([left], [right])
        merged = neighbours[left] | neighbours[right]
        for item in merged:
            neighbours[item] = merged
    for left in range(20):
        for right in range(20):
            assert (table.find(left) == table.find(right)) == (right in neighbours[left])
