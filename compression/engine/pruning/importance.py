"""How much each class of channels matters, from weights and from activations."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from compression.engine.graph.structure import attributes_of
from compression.engine.pruning.graph import ChannelGroup, PruningGraph, WeightAxis
from compression.measure.samples import Samples
from compression.measure.sessions import open_session, run_samples

Importance = dict[int, float]
_CONSUMERS = ("Conv", "Gemm", "MatMul")


def read_activations(
    model: onnx.ModelProto, names: list[str], samples: Samples, threads: int
) -> dict[str, NDArray]:
    """The named tensors of a model for all samples, with the graph as it stands."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    plain = samples.inputs if samples.is_plain else {}
    inputs = {name: plain[name] for name in names if name in plain}
    wanted = [name for name in dict.fromkeys(names) if name not in inputs]
    have = {item.name for item in probe.graph.output}
    probe.graph.output.extend(
        helper.make_empty_tensor_value_info(name)
        for name in wanted
        if name not in have and name not in samples.inputs
    )
    if not wanted:
        return inputs
    session = open_session(probe.SerializeToString(), threads=threads, is_optimized=False)
    return inputs | dict(zip(wanted, run_samples(session, samples, wanted), strict=True))


def weigh_axes(
    graph: PruningGraph, samples: Samples | None, threads: int = 1
) -> dict[WeightAxis, NDArray]:
    """A value per position of each weight axis that is consumed (or produced, without samples).

    With samples it is the norm of the consuming weights times the root mean square of what they
    read (Sun et al. 2023, "Wanda"), which needs no gradient and no label; without, the norm alone.
    """
    nodes = [
        node
        for node in graph.model.graph.node
        if node.op_type in _CONSUMERS and len(node.input) > 1 and node.input[1] in graph.weights
    ]
    activations: Mapping[str, NDArray] = {}
    if samples is not None:
        names = [node.input[0] for node in nodes]
        activations = read_activations(graph.model, names, samples, threads)
    values: dict[WeightAxis, NDArray] = {}
    for node in nodes:
        weight = graph.weights[node.input[1]]
        axis = _input_axis(node, weight)
        if axis is None:
            continue
        norm = _norm_along(weight, axis)
        read = activations.get(node.input[0])
        if read is not None:
            channel = -1 if node.op_type == "MatMul" else 1
            size = read.shape[channel]
            strength = np.sqrt((np.moveaxis(read, channel, 0).reshape(size, -1) ** 2).mean(axis=1))
            if len(strength) == len(norm):
                norm = norm * strength
        values[node.input[1], axis] = norm
    return values


def _input_axis(node: onnx.NodeProto, weight: NDArray) -> int | None:
    """The axis whose positions are input channels; a depthwise weight's only axis is 0."""
    attributes = attributes_of(node)
    if node.op_type == "Conv":
        if attributes.get("group", 1) == 1:
            return 1
        return 0 if weight.shape[1] == 1 else None
    if node.op_type == "Gemm":
        return 1 if attributes.get("transB", 0) else 0
    return 0 if weight.ndim == 2 else None


def _norm_along(weight: NDArray, axis: int) -> NDArray:
    rows = np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], -1)
    return np.sqrt((rows**2).sum(axis=1))


def rank_group(
    graph: PruningGraph, group: ChannelGroup, values: Mapping[WeightAxis, NDArray]
) -> Importance:
    """The importance of each class of a group."""
    result = {}
    for root, members in group.classes.items():
        total = 0.0
        for member in members:
            weights = values.get((member.weight, member.axis))
            if weights is None and "out" in graph.roles[member.weight, member.axis]:
                weights = _norm_along(graph.weights[member.weight], member.axis) * 1e-6
            if weights is not None:
                total += float(weights[member.index]) ** 2
        result[root] = total**0.5
    return result
