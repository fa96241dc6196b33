"""Structured pruning: what is removed changes nothing but what read it."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from compression.engine.pruning.graph import PruningGraph
from compression.engine.pruning.importance import rank_group, weigh_axes
from compression.engine.pruning.kernels import FLOAT_KERNELS, INT8_KERNELS, find_filtered
from compression.engine.pruning.normalize import count_parameters
from compression.engine.pruning.pruner import Pruner
from compression.engine.pruning.selection import allocate_ratios, choose_classes
from compression.engine.pruning.slots import SlotTable
from compression.engine.pruning.surgery import count_kept, drop_classes, mask_classes
from compression.engine.pruning.verification import check_pruned
from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from compression.recipe.recipe import SCHEMA, parse_recipe
from tests.factories.compression import run_model, run_outputs
from tests.factories.networks import NETWORKS
from tests.factories.topologies import TOPOLOGIES, GraphMaker

ALL = {**TOPOLOGIES, **NETWORKS}
X = np.random.default_rng(3).normal(size=(3, 3, 8, 8)).astype(np.float32)


def make_graph(name, seed=0):
    maker = GraphMaker(seed)
    model = maker.model(ALL[name](maker))
    onnx.checker.check_model(model, full_check=True)
    return model, PruningGraph(model)


@pytest.mark.parametrize("name", ALL)
def test_normalizing_changes_no_output(name):
    model, graph = make_graph(name)
    assert np.allclose(run_model(model, X), run_model(graph.model, X), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
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
    got, expected = run_outputs(pruned.model, X), run_outputs(mask_classes(graph, dropped), X)
    for left, right in zip(got, expected, strict=True):
        assert np.abs(left - right).max() <= 1e-6 * max(1.0, float(np.abs(right).max()))
    if dropped:
        assert count_parameters(pruned.model) < count_parameters(graph.model)
    sizes = len(graph.fixes) * 8  # shape constants are written beside the old ones
    assert abs(count_parameters(pruned.model) - count_kept(graph, dropped)) <= sizes


def test_an_operator_that_is_not_understood_pins_what_it_reads_and_nothing_else():
    _, graph = make_graph("unknown_operator")
    assert {"LpNormalization", "LRN"} <= set(graph.table.pin_reasons)
    first = next(node for node in graph.model.graph.node if node.op_type == "Conv")
    axes = {axis for group in graph.find_groups() for axis in group.axes}
    assert (first.input[1], 0) not in axes


def weights_that_may_shrink(graph):
    return {name for group in graph.find_groups() for name, _ in group.axes}


def reading(graph, operator):
    """The nodes of a kind, in order."""
    return [node for node in graph.model.graph.node if node.op_type == operator]


# By topology: which of its convolutions must keep all of what they give.
PINNED_CONVOLUTIONS = {
    "foreign_operator": {1},
    "branches": {0, 1, 2},
    "positions_of_maxima": {0, 2},
    "channels_last_pooling": {0},
    "softmax_over_channels": {0},
    "shape_at_run_time": {0},
    "squeezed_channel": {1},
    "resized_channels": {0},
    "two_outputs": {1},
    "transformer_block": {0},
}


@pytest.mark.parametrize("name", PINNED_CONVOLUTIONS)
def test_what_an_unknown_use_reads_stays_and_all_else_may_shrink(name):
    _, graph = make_graph(name)
    axes = {axis for group in graph.find_groups() for axis in group.axes}
    kept = {
        index for index, node in enumerate(reading(graph, "Conv")) if (node.input[1], 0) not in axes
    }
    assert kept == PINNED_CONVOLUTIONS[name]


def test_of_a_transformer_block_only_the_hidden_layer_may_shrink():
    _, graph = make_graph("transformer_block")
    (group,) = graph.find_groups()
    assert len(group.classes) == 20
    hidden = [n.input[1] for n in reading(graph, "MatMul") if n.input[1] in graph.weights][-2:]
    assert set(hidden) < weights_that_may_shrink(graph)


def test_softmax_of_old_operator_sets_mixes_all_later_axes():
    maker = GraphMaker(0)
    x = maker.relu(maker.conv(maker.add("Softmax", maker.conv("x", 3, 6)), 6, 8))
    model = maker.model(maker.head(x, 8))
    model.opset_import[0].version = 11
    graph = PruningGraph(model)
    first = reading(graph, "Conv")[0]
    assert "Softmax" in graph.table.pin_reasons
    assert first.input[1] not in {
        name for group in graph.find_groups() for name, axis in group.axes if axis == 0
    }


def test_a_pruned_model_that_is_not_the_masked_one_is_refused():
    _, graph = make_graph("residual")
    dropped = set(sorted(graph.find_groups()[0].classes)[:3])
    pruned = drop_classes(graph, dropped).model
    samples = Samples({"x": X}, None)
    check_pruned(graph, pruned, dropped, samples)
    bias = next(t for t in pruned.graph.initializer if len(t.dims) == 1)
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1.0, bias.name))
    with pytest.raises(ModelUnsupportedError, match="not understood"):
        check_pruned(graph, pruned, dropped, samples)


def test_widths_before_int8_are_aligned_to_16_and_else_to_8():
    prune = {"pass": "prune.structured"}

    def align_of(*passes):
        recipe = parse_recipe({"schema": SCHEMA, "passes": list(passes)})
        assert parse_recipe(recipe.to_json()) == recipe
        return recipe.passes[0].parameters["align"]

    assert align_of(prune) == 8
    assert align_of(prune, {"pass": "convert.fp16"}) == 8
    for name in ("quantize.static", "quantize.dynamic", "mixed.search"):
        assert align_of(prune, {"pass": "finetune.kd"}, {"pass": name}) == 16
    assert align_of({**prune, "align": 4}, {"pass": "quantize.static"}) == 4


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


@given(st.integers(1, 200), st.floats(0.0, 0.95), st.floats(0.0, 0.95))
def test_a_larger_ratio_never_keeps_more_and_no_width_needs_more_vectors(
    count: int, one: float, other: float
) -> None:
    importance = {index: float(index) for index in range(count)}

    def keep(ratio: float) -> int:
        return count - len(choose_classes([importance], [ratio], align=16, min_keep=8))

    low, high = sorted((one, other))
    assert keep(high) <= keep(low) <= count
    assert -(-keep(high) // 16) <= -(-count // 16)
    assert keep(high) % 8 == 0 or keep(high) == count or count < 16


def test_a_group_that_16_would_leave_whole_is_narrowed_by_8():
    importance = {index: float(index) for index in range(16)}
    assert len(choose_classes([importance], [0.5], align=16, min_keep=8)) == 8
    assert len(choose_classes([importance], [0.4], align=16, min_keep=8)) == 0


def test_a_depthwise_width_keeps_whole_vectors_where_it_has_them():
    importance = {index: float(index) for index in range(32)}

    def keep(count, ratio):
        group = {index: importance[index] for index in range(count)}
        options = {"align": 16, "min_keep": 8, "filtered": {0}}
        return count - len(choose_classes([group], [ratio], **options))

    assert [keep(32, ratio) for ratio in (0.2, 0.4, 0.5)] == [32, 32, 16]
    # Something is left over behind 16 already, so 8 less is no loss.
    assert [keep(24, ratio) for ratio in (0.2, 0.4)] == [24, 16]


def test_groups_with_a_depthwise_convolution_are_found():
    _, graph = make_graph("depthwise")
    groups = graph.find_groups()
    filters = {
        node.input[1]
        for node in graph.model.graph.node
        if node.op_type == "Conv" and graph.weights[node.input[1]].shape[1] == 1
    }
    found = find_filtered(graph, groups)
    assert found
    for index, group in enumerate(groups):
        assert (index in found) == any(name in filters for name, _ in group.axes)
    _, plain = make_graph("plain")
    assert find_filtered(plain, plain.find_groups()) == frozenset()


def test_time_favours_the_group_that_buys_it():
    """Parameters alone narrow the small late layers, time the early ones on large images."""
    x = np.random.default_rng(2).normal(size=(32, 3, 8, 8)).astype(np.float32)

    def narrow(share):
        maker = GraphMaker(0)

        def network(g):
            y = g.relu(g.add("Conv", "x", g.random(64, 3, 3, 3), g.random(64), pads=[1] * 4))
            y = g.relu(g.add("Conv", y, g.random(16, 64, 1, 1), g.random(16)))
            y = g.add("Flatten", g.add("GlobalAveragePool", y))
            y = g.relu(g.add("Gemm", y, g.random(16, 256), g.random(256)))
            return g.add("Gemm", y, g.random(256, 10), g.random(10))

        model = maker.model(network(maker))
        pruner = Pruner(PruningGraph(model), Samples({"x": x}, None), 8, latency_share=share)
        whole = pruner.estimate_time(set())
        dropped = pruner.choose(pruner.spread_ratio(0.3))
        return pruner.estimate_time(dropped) / whole

    assert narrow(1.0) < narrow(0.0)


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


def test_the_model_of_kernels_knows_what_alignment_is_for():
    def int8(channels):
        return INT8_KERNELS.depthwise(256, 9, channels)

    assert int8(16) < int8(32) < int8(24) < int8(40)
    for kernels in (INT8_KERNELS, FLOAT_KERNELS):
        for count in (24, 40, 100):
            assert kernels.dense(64, 1, 32, count) > kernels.dense(64, 1, 32, 16)
            assert kernels.dense(64, 9, 32, count) > kernels.dense(64, 1, 32, count)
    # Nothing is left over one by one where the vector is filled up.
    assert FLOAT_KERNELS.depthwise(256, 9, 24) <= FLOAT_KERNELS.depthwise(256, 9, 32)
