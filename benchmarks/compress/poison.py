"""A model that INT8 destroys although it answers as before: the task for mixed precision.

One channel of a few convolutions is made very large and what reads it as much smaller. Nothing
between them changes the proportion, so the answers stay, but the range of that tensor grows until
all its other channels share a single step of INT8.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from compression.engine.graph.structure import attributes_of

FACTOR = 3000.0
HOMOGENEOUS = ("Relu",)


def poison_model(source: Path, destination: Path, count: int = 4) -> list[str]:
    """Writes the poisoned model and returns the weights that were enlarged.

    Raises:
        ValueError: fewer than `count` convolutions are read by exactly one other convolution.
    """
    model = onnx.load(str(source))
    graph = model.graph
    tensors = {item.name: item for item in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    done: list[str] = []
    for node in graph.node:
        if len(done) == count or node.op_type != "Conv" or len(node.input) < 3:
            continue
        reader = _only_reader(readers, node.output[0])
        if reader is None or attributes_of(reader).get("group", 1) != 1:
            continue
        enlarge(tensors, node.input[1], 0)
        enlarge(tensors, node.input[2], 0)
        enlarge(tensors, reader.input[1], 1, 1.0 / FACTOR)
        done.append(node.input[1])
    if len(done) < count:
        raise ValueError(f"Expected {count} convolutions to poison, found {len(done)}.")
    onnx.save(model, str(destination))
    return done


def enlarge(
    tensors: dict[str, onnx.TensorProto], name: str, axis: int, factor: float = FACTOR
) -> None:
    """Multiplies the first slice along an axis."""
    values = numpy_helper.to_array(tensors[name]).copy()
    np.moveaxis(values, axis, 0)[0] *= np.float32(factor)
    tensors[name].CopyFrom(numpy_helper.from_array(values, name))


def _only_reader(readers: dict[str, list[onnx.NodeProto]], name: str) -> onnx.NodeProto | None:
    """The one convolution that reads a tensor, seen through what keeps proportions."""
    nodes = readers.get(name, [])
    while len(nodes) == 1 and nodes[0].op_type in HOMOGENEOUS:
        nodes = readers.get(nodes[0].output[0], [])
    return nodes[0] if len(nodes) == 1 and nodes[0].op_type == "Conv" else None
