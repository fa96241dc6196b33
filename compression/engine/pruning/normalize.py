"""A graph in the one shape that the propagation understands."""

import copy

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compression.engine.graph.names import all_names, free_name

Shape = list[int | None]


def normalize_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose constants are initializers, whose initializers are no inputs, and whose small
    vectors are not shared: exporters share equal biases, which would tie unrelated layers."""
    result = copy.deepcopy(model)
    graph = result.graph
    kept = []
    for node in graph.node:
        value = next((item.t for item in node.attribute if item.name == "value"), None)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    nodes = [copy.deepcopy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [copy.deepcopy(item) for item in graph.input if item.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    _unshare_vectors(graph, weights)
    return result


def _unshare_vectors(graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto]) -> None:
    uses: dict[str, int] = {}
    taken = all_names(graph)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name not in weights or len(weights[name].dims) > 1:
                continue
            uses[name] = uses.get(name, 0) + 1
            if uses[name] > 1:
                tensor = graph.initializer.add()
                tensor.CopyFrom(weights[name])
                tensor.name = free_name(f"{name}__{uses[name]}", taken)
                taken.add(tensor.name)
                node.input[index] = tensor.name


def read_weights(model: onnx.ModelProto) -> dict[str, NDArray]:
    """All initializers as arrays."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def read_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The known shapes; a free dimension is None."""
    shapes: dict[str, Shape] = {
        tensor.name: list(tensor.dims) for tensor in model.graph.initializer
    }
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for item in [*graph.input, *graph.value_info, *graph.output]:
        if item.type.tensor_type.HasField("shape"):
            dims = item.type.tensor_type.shape.dim
            shapes.setdefault(
                item.name, [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
            )
    return shapes


def count_parameters(model: onnx.ModelProto) -> int:
    """Elements of all initializers."""
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
