"""What a model's graph may contain; pure rules over the parsed protobuf.

Neither onnx.checker nor ONNX Runtime stops these: unknown operator domains pass the checker, hard
links and oversize lengths of external data are followed, and shapes may ask for any memory.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import helper

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
MIN_OPSET = 7
MAX_NODES = 100_000
MAX_GRAPH_DEPTH = 16
MAX_TENSOR_BYTES = 2 * 1024**3
MAX_INPUTS = 32
UNNAMED = "dim_"
"""What free dimensions are called that the graph has no name for, before input and axis."""


class RuleError(Exception):
    """The model breaks a rule; the message is for the person who uploaded it."""


def check_model_rules(model: onnx.ModelProto, external_sizes: Mapping[str, int]) -> None:
    """Returns when the model keeps every rule.

    Args:
        external_sizes: size in bytes of each uploaded file of role external_data, by path.

    Raises:
        RuleError: with the first rule that is broken.
    """
    if not model.HasField("graph") or not model.opset_import:
        raise RuleError("The file is not an ONNX model: it has no graph")
    if model.ir_version > onnx.IR_VERSION:
        raise RuleError(f"IR version {model.ir_version} is newer than {onnx.IR_VERSION}")
    opset = default_opset(model)
    newest = onnx.defs.onnx_opset_version()
    if opset == 0 and not _has_default_operators(model):
        opset = newest  # classical models of the domain ai.onnx.ml need no other
    if not MIN_OPSET <= opset <= newest:
        raise RuleError(f"Expected an opset from {MIN_OPSET} to {newest}; got {opset}")
    _check_nodes(model)
    for tensor in iter_tensors(model):
        _check_tensor(tensor, external_sizes)


def default_opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set; 0 when it is not imported."""
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def extract_signature(model: onnx.ModelProto) -> dict[str, Any]:
    """Inputs and outputs of the graph with data type and shape, opset and IR version."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [
        _describe(value, index)
        for index, value in enumerate(model.graph.input)
        if value.name not in initialized
    ]
    outputs = [_describe_output(value, index) for index, value in enumerate(model.graph.output)]
    if not inputs or not outputs or len(inputs) > MAX_INPUTS or len(outputs) > MAX_INPUTS:
        raise RuleError(f"Expected 1 to {MAX_INPUTS} inputs and outputs")
    return {
        "inputs": inputs,
        "outputs": outputs,
        "opset": default_opset(model) or 1,  # without operators of it, any will do
        "ir_version": int(model.ir_version),
    }


def iter_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers, sparse ones, attributes, those of inner graphs."""
    for graph, _ in _iter_graphs(model.graph, 0):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in graph.node:
            yield from _attribute_tensors(node)
    for function in model.functions:
        for node in function.node:
            yield from _attribute_tensors(node)
    for training in model.training_info:
        raise RuleError(f"Training information is not accepted: {training.algorithm.name!r}")


def _attribute_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
            yield sparse.values
            yield sparse.indices


def _iter_graphs(graph: onnx.GraphProto, depth: int) -> Iterator[tuple[onnx.GraphProto, int]]:
    if depth > MAX_GRAPH_DEPTH:
        raise RuleError(f"Graphs are nested deeper than {MAX_GRAPH_DEPTH}")
    yield graph, depth
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _iter_graphs(attribute.g, depth + 1)
            for inner in attribute.graphs:
                yield from _iter_graphs(inner, depth + 1)


def _has_default_operators(model: onnx.ModelProto) -> bool:
    return any(
        node.domain in ("", "ai.onnx")
        for graph, _ in _iter_graphs(model.graph, 0)
        for node in graph.node
    )


def _check_nodes(model: onnx.ModelProto) -> None:
    # Functions of the model itself may have a domain of their own: their nodes are checked too.
    own = {(function.domain, function.name) for function in model.functions}
    count = 0
    groups: list[Any] = [graph.node for graph, _ in _iter_graphs(model.graph, 0)]
    for function in model.functions:
        groups.append(function.node)
        for node in function.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    groups += [graph.node for graph, _ in _iter_graphs(attribute.g, 1)]
    for nodes in groups:
        count += len(nodes)
        if count > MAX_NODES:
            raise RuleError(f"The graph has more than {MAX_NODES} nodes")
        for node in nodes:
            if node.domain not in ALLOWED_DOMAINS and (node.domain, node.op_type) not in own:
                raise RuleError(
                    f"The operator {node.op_type!r} is of the domain {node.domain!r}; accepted: "
                    "ai.onnx, ai.onnx.ml, com.microsoft"
                )


def _check_tensor(tensor: onnx.TensorProto, external_sizes: Mapping[str, int]) -> None:
    elements = 1
    for dim in tensor.dims:
        if dim < 0:
            raise RuleError(f"The tensor {tensor.name!r} has a negative dimension")
        elements *= dim
    if elements > MAX_TENSOR_BYTES:
        raise RuleError(f"The tensor {tensor.name!r} has {elements} elements")
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if location not in external_sizes:
        raise RuleError(
            f"The tensor {tensor.name!r} refers to external data at {location!r}, which is not "
            "among the uploaded files"
        )
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError as error:
        raise RuleError(f"The tensor {tensor.name!r} has a broken offset or length") from error
    if offset < 0 or length < 0 or offset + length > external_sizes[location]:
        raise RuleError(
            f"The tensor {tensor.name!r} reads past the end of {location!r}, which has "
            f"{external_sizes[location]} bytes"
        )


def _describe_output(value: onnx.ValueInfoProto, index: int) -> dict[str, Any]:
    """As an input, or a sequence of maps from class to number as ZipMap makes it."""
    if value.type.HasField("sequence_type"):
        inner = value.type.sequence_type.elem_type
        # Converters leave the inner type out at times; ONNX Runtime infers it when it loads.
        if inner.HasField("map_type") or inner.WhichOneof("value") is None:
            return {"name": value.name, "dtype": "map", "shape": ["rows"]}
    return _describe(value, index)


def _describe(value: onnx.ValueInfoProto, index: int) -> dict[str, Any]:
    if not value.type.HasField("tensor_type"):
        raise RuleError(f"{value.name!r} is not a tensor")
    tensor = value.type.tensor_type
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except (KeyError, TypeError) as error:
        raise RuleError(f"{value.name!r} has an unknown data type") from error
    if tensor.elem_type == onnx.TensorProto.STRING:
        dtype = "string"
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        # Some exporters write -1 or 0 where a dimension is free.
        if dim.dim_value > 0:
            shape.append(int(dim.dim_value))
        else:
            shape.append(dim.dim_param or f"{UNNAMED}{index}_{axis}")
    return {"name": value.name, "dtype": dtype, "shape": shape}
