"""Reads what preflight wants to know of a graph, without running it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from compression.exceptions import ModelUnsupportedError
from compression.recipe.facts import GraphFacts, TensorFacts
from registry.validation.feeds import choose_specs
from registry.validation.rules import (
    ALLOWED_DOMAINS,
    RuleError,
    default_opset,
    extract_signature,
)

CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
_WEIGHT_INPUT = {"Gather": 0, "LSTM": 1, "GRU": 1, "RNN": 1}
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", *_WEIGHT_INPUT}


def read_facts(path: Path, axes: Mapping[str, int | None] | None = None) -> GraphFacts:
    """The facts of a model file; weights outside of it are not read.

    Args:
        axes: of the rows of inputs, as the version's contract names them.

    Raises:
        ModelUnsupportedError: it is no ONNX model, or an axis is named that there is not.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's implementations raise classes of their own
        raise ModelUnsupportedError(f"The file is not an ONNX model: {error}") from error
    graph = model.graph
    constants = _find_constants(graph)
    own = {(item.domain, item.name) for item in model.functions}
    nodes = [*_iter_nodes(graph), *(node for item in model.functions for node in item.node)]
    initialized = {tensor.name for tensor in graph.initializer}
    weighted: dict[str, int] = {}
    other_types = set()
    for node in graph.node:
        kind = _weight_type(node, constants)
        if kind == TensorProto.FLOAT:
            weighted[node.op_type] = weighted.get(node.op_type, 0) + 1
        elif kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
            other_types.add(TensorProto.DataType.Name(kind))
    inner = [item for item in _iter_graphs(graph) if item is not graph]
    return GraphFacts(
        opset=default_opset(model),
        inputs=_describe_inputs(model, axes or {}),
        outputs=tuple(_describe(item) for item in graph.output),
        weighted=weighted,
        inner_weights=sum(_count_weighted(item) for item in inner),
        control_flow=_names(nodes, lambda node: node.op_type in CONTROL_FLOW),
        quantized=_names(nodes, _is_quantized),
        sequences=_names(nodes, _is_sequence),
        foreign=_names(
            nodes,
            lambda n: n.domain not in ALLOWED_DOMAINS and (n.domain, n.op_type) not in own,
        ),
        other_weight_types=tuple(sorted(other_types)),
        weight_bytes=sum(_weight_bytes(item) for item in _iter_graphs(graph)),
        largest_activation_bytes=_largest_activation(model),
        file_bytes=path.stat().st_size,
        operators=_operators_of_data(graph, initialized),
    )


def _describe_inputs(model: Any, axes: Mapping[str, int | None]) -> tuple[TensorFacts, ...]:
    initialized = {tensor.name for tensor in model.graph.initializer}
    found = [_describe(item) for item in model.graph.input if item.name not in initialized]
    try:
        inputs = extract_signature(model)["inputs"]
    except RuleError:
        # What is no tensor, or is too much, is refused for that.
        return tuple(found)
    try:
        specs = {spec.name: spec for spec in choose_specs(inputs, axes)}
    except RuleError as error:
        raise ModelUnsupportedError(str(error)) from error
    return tuple(replace(item, batch_axis=specs[item.name].batch_axis) for item in found)


def _operators_of_data(graph: Any, initialized: set[str]) -> tuple[str, ...]:
    reached = {item.name for item in graph.input if item.name not in initialized}
    found = set()
    for node in graph.node:
        if reached & set(node.input):
            reached.update(node.output)
            is_plain = node.domain in ("", "ai.onnx")
            found.add(node.op_type if is_plain else f"{node.domain}.{node.op_type}")
    return tuple(sorted(found))


def _names(nodes: list[Any], is_wanted: Any) -> tuple[str, ...]:
    return tuple(sorted({node.op_type for node in nodes if is_wanted(node)}))


def _is_quantized(node: Any) -> bool:
    name = node.op_type
    return name.startswith(("QLinear", "QGemm", "QAttention", "MatMulNBits")) or name in (
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
    )


def _is_sequence(node: Any) -> bool:
    return node.op_type.startswith(("Sequence", "Optional")) or node.op_type in (
        *("SplitToSequence", "ConcatFromSequence", "ZipMap"),
    )


def _iter_graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside it; the nesting was bounded when it was registered."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _iter_graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _iter_graphs(inner)


def _iter_nodes(graph: Any) -> Iterator[Any]:
    for item in _iter_graphs(graph):
        yield from item.node


def _find_constants(graph: Any) -> dict[str, Any]:
    """Tensors that do not depend on any input, with element type and number of elements."""
    found = {t.name: (t.data_type, math.prod(t.dims)) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value":
                    found[node.output[0]] = (item.t.data_type, math.prod(item.t.dims))
        elif node.input and all(name in found for name in node.input if name):
            first = next((found[name] for name in node.input if name), None)
            if first is not None:
                found |= dict.fromkeys(node.output, first)
    return found


def _weight_type(node: Any, constants: dict[str, Any]) -> int | None:
    """The element type of a node's weight, or None when it has none worth the name."""
    if node.op_type not in _WEIGHTED:
        return None
    index = _WEIGHT_INPUT.get(node.op_type, 1)
    if len(node.input) <= index or node.input[index] not in constants:
        return None
    kind, elements = constants[node.input[index]]
    return kind if elements else None


def _count_weighted(graph: Any) -> int:
    constants = _find_constants(graph)
    return sum(_weight_type(node, constants) == TensorProto.FLOAT for node in graph.node)


def _weight_bytes(graph: Any) -> int:
    held = sum(_tensor_bytes(tensor) for tensor in graph.initializer)
    constants = (node for node in graph.node if node.op_type == "Constant")
    values = [item.t for node in constants for item in node.attribute if item.name == "value"]
    return held + sum(map(_tensor_bytes, values))


def _tensor_bytes(tensor: Any) -> int:
    try:
        size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError):
        size = 8
    return int(math.prod(tensor.dims)) * size


def _largest_activation(model: Any) -> int:
    """Bytes of the largest tensor whose shape is known, for one row where the rows are free."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        graph = model.graph
    largest = 0
    for item in [*graph.input, *graph.value_info, *graph.output]:
        facts = _describe(item)
        if facts.kind == "tensor" and facts.shape is not None:
            known = [1 if dim is None else max(dim, 0) for dim in facts.shape]
            largest = max(largest, math.prod(known) * 4)
    return largest


def _dtype_name(elem_type: int) -> str:
    if elem_type == TensorProto.STRING:
        return "string"
    try:
        return str(helper.tensor_dtype_to_np_dtype(elem_type).name)
    except (KeyError, TypeError):
        return "unknown"


def _describe(value: Any) -> TensorFacts:
    kind = (value.type.WhichOneof("value") or "tensor_type").removesuffix("_type")
    if kind != "tensor":
        return TensorFacts(value.name, "", None, kind)
    tensor = value.type.tensor_type
    dtype = _dtype_name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return TensorFacts(value.name, dtype, None)
    # Paddle's exporter writes -1 for a free dimension.
    dims = (
        d.dim_value if d.HasField("dim_value") and d.dim_value != -1 else None
        for d in tensor.shape.dim
    )
    return TensorFacts(value.name, dtype, tuple(dims))
