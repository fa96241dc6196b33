"""Least-squares repair: consumers of dropped channels learn to do with those that are left.

For each convolution or product in order, A is what it reads in the pruned model and T what it gave
in the original one, on calibration samples. Its weights move by the ridge solution of
min ||A (W + D) + b - T||^2 + r ||D||^2. No label and no gradient is used.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compression.engine.graph.structure import attributes_of
from compression.engine.passes.context import Progress, ignore_progress
from compression.engine.pruning.importance import read_activations
from compression.engine.pruning.surgery import Pruned
from compression.measure.samples import Samples

RIDGE = 1e-3
MAX_POSITIONS = 12_000
# A depthwise channel has a handful of weights, so fewer positions determine them.
DEPTHWISE_POSITIONS = 3_000
DEPTHWISE_CHUNK = 64
MAX_COLUMNS = 6_000


def repair_consumers(
    original: onnx.ModelProto,
    pruned: Pruned,
    samples: Samples,
    *,
    seed: int = 0,
    threads: int = 1,
    report_progress: Progress = ignore_progress,
) -> tuple[onnx.ModelProto, list[str]]:
    """The repaired model and the names of the outputs of repaired nodes.

    Args:
        original: the normalized model that `pruned` was made from.
        samples: calibration samples; a few hundred are enough.
    """
    model = onnx.ModelProto()
    model.CopyFrom(pruned.model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if _is_repairable(node, tensors)]
    targets = read_activations(original, [node.output[0] for node in nodes], samples, threads)
    generator = np.random.default_rng(seed)
    repaired = []
    for index, node in enumerate(nodes):
        read = read_activations(model, [node.input[0]], samples, threads)[node.input[0]]
        target = targets[node.output[0]]
        mask = pruned.kept.get(node.input[1], {}).get(_output_axis(node))
        if mask is not None:
            target = target.compress(mask, axis=1)
        if _repair_node(node, tensors, read, target, generator):
            repaired.append(node.output[0])
        report_progress(index + 1, len(nodes))
    return model, repaired


def _is_repairable(node: onnx.NodeProto, tensors: dict[str, Any]) -> bool:
    if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
        return False
    attributes = attributes_of(node)
    plain = attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0
    is_followed = not attributes.get("transA", 0) and (
        attributes.get("group", 1) == 1 or _is_depthwise(node, tensors)
    )
    is_explicit = attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    constant = node.input[1] in tensors and node.input[2] in tensors
    if not (plain and is_followed and is_explicit and constant):
        return False
    return node.op_type == "Gemm" or len(tensors[node.input[1]].dims) == 4


def _is_depthwise(node: onnx.NodeProto, tensors: dict[str, Any]) -> bool:
    """Whether every channel is filtered alone, into one channel."""
    if node.op_type != "Conv" or node.input[1] not in tensors:
        return False
    outputs, inputs = tensors[node.input[1]].dims[:2]
    return inputs == 1 and outputs == attributes_of(node).get("group", 1) > 1


def _output_axis(node: onnx.NodeProto) -> int:
    return 0 if node.op_type == "Conv" or attributes_of(node).get("transB", 0) else 1


def _repair_node(
    node: onnx.NodeProto,
    tensors: dict[str, Any],
    read: NDArray,
    target: NDArray,
    generator: np.random.Generator,
) -> bool:
    weight = numpy_helper.to_array(tensors[node.input[1]])
    bias = numpy_helper.to_array(tensors[node.input[2]]).reshape(-1)
    if _is_depthwise(node, tensors):
        inputs, outputs = sample_patches(node, weight, read, target, generator, DEPTHWISE_POSITIONS)
        patches = inputs.reshape(len(inputs), len(weight), -1)
        shaped, new_bias = solve_depthwise(patches, outputs, weight.reshape(len(weight), -1), bias)
        _store(tensors, node, shaped, new_bias)
        return True
    is_transposed = _output_axis(node) == 0
    matrix = weight.reshape(weight.shape[0], -1).T if is_transposed else weight
    if matrix.shape[0] > MAX_COLUMNS or len(bias) != matrix.shape[1]:
        return False
    if node.op_type == "Conv":
        inputs, outputs = sample_patches(node, weight, read, target, generator)
    else:
        inputs, outputs = read, target
    delta, shift = solve_ridge(inputs, outputs - (inputs @ matrix + bias))
    matrix = matrix + delta
    shaped = matrix.T.reshape(weight.shape) if is_transposed else matrix
    _store(tensors, node, shaped, bias + shift)
    return True


def _store(tensors: dict[str, Any], node: onnx.NodeProto, weight: NDArray, bias: NDArray) -> None:
    for name, value in zip(node.input[1:3], (weight, bias), strict=True):
        array = np.ascontiguousarray(value, dtype=np.float32).reshape(tensors[name].dims)
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))


def solve_ridge(inputs: NDArray, residual: NDArray) -> tuple[NDArray, NDArray]:
    """The change of weights [K, M] and bias [M] that best explains a residual [P, M] from [P, K].

    The penalty is `RIDGE` times the mean eigenvalue of the normal matrix, so it has no unit.
    """
    ones = np.ones((len(inputs), 1))
    design = np.concatenate([inputs.astype(np.float64), ones], axis=1)
    normal = design.T @ design
    penalty = RIDGE * np.trace(normal) / len(normal) + 1e-12
    solution = np.linalg.solve(normal + penalty * np.eye(len(normal)), design.T @ residual)
    return solution[:-1], solution[-1]


def solve_depthwise(
    patches: NDArray, outputs: NDArray, weight: NDArray, bias: NDArray
) -> tuple[NDArray, NDArray]:
    """New weights [C, K] and bias [C] of filters that each read a channel of their own.

    Args:
        patches: what each channel reads, [P, C, K].
        outputs: what it should give, [P, C].
        weight, bias: the present values, [C, K] and [C].
    """
    weights, biases = [], []
    for start in range(0, len(weight), DEPTHWISE_CHUNK):
        part = slice(start, start + DEPTHWISE_CHUNK)
        read = patches[:, part].transpose(1, 0, 2).astype(np.float64)
        design = np.concatenate([read, np.ones((*read.shape[:2], 1))], axis=2)
        present = np.concatenate([weight[part], bias[part, None]], axis=1)
        residual = outputs[:, part].T - np.einsum("cpk,ck->cp", design, present)
        normal = np.einsum("cpk,cpl->ckl", design, design)
        size = normal.shape[1]
        penalty = RIDGE * np.trace(normal, axis1=1, axis2=2) / size + 1e-12
        normal += penalty[:, None, None] * np.eye(size)
        right = np.einsum("cpk,cp->ck", design, residual)
        solution = present + np.linalg.solve(normal, right[..., None])[..., 0]
        weights.append(solution[:, :-1])
        biases.append(solution[:, -1])
    return np.concatenate(weights), np.concatenate(biases)


def sample_patches(
    node: onnx.NodeProto,
    weight: NDArray,
    read: NDArray,
    target: NDArray,
    generator: np.random.Generator,
    positions: int = MAX_POSITIONS,
) -> tuple[NDArray, NDArray]:
    """What a convolution reads and should give, [P, C*kh*kw] and [P, M], at random positions."""
    attributes = attributes_of(node)
    height, width = weight.shape[2:]
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    strides = attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    count, _, rows, columns = target.shape
    total = count * rows * columns
    chosen = generator.choice(total, min(positions, total), replace=False)
    image, row, column = np.unravel_index(chosen, (count, rows, columns))
    padded = np.pad(read, ((0, 0), (0, 0), (top, bottom), (left, right)))
    patches = np.empty((len(chosen), read.shape[1], height, width), np.float32)
    for y in range(height):
        for x in range(width):
            patches[:, :, y, x] = padded[
                image,
                :,
                row * strides[0] + y * dilations[0],
                column * strides[1] + x * dilations[1],
            ]
    return patches.reshape(len(chosen), -1), target[image, :, row, column]
