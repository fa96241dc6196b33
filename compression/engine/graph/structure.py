"""What a graph consists of: parameters, multiply-accumulates, sparsity, bytes. Pure."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.engine.graph.constants import list_weights

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm"} | {
    "ConvInteger",
    "MatMulInteger",
}
_WEIGHT_INPUT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}


def describe_file(path: Path) -> dict[str, Any]:
    """Bytes of a file, and what they compress to (zlib level 6, as an HTTP server would)."""
    content = path.read_bytes()
    return {"bytes": len(content), "compressed_bytes": len(zlib.compress(content, 6))}


def describe_graph(path: Path) -> dict[str, Any]:
    """Parameters, MACs for one sample (None where shapes are unknown), operators and sparsity."""
    model = onnx.load(str(path))
    graph = model.graph
    held = list(list_weights(graph))
    weights = dict(held)
    source = _weight_sources(graph, weights)
    shapes = _known_shapes(model)
    operators: dict[str, int] = {}
    sparsity: dict[str, float] = {}
    macs: int | None = 0
    for node in graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        if node.op_type not in _WEIGHTED:
            continue
        weight = source.get(node.input[_WEIGHT_INPUT.get(node.op_type, 1)])
        if weight is None:
            continue
        sparsity[node.name or node.output[0]] = _zero_share(weights[weight], node)
        count = _count_macs(node, list(weights[weight].dims), shapes)
        macs = None if macs is None or count is None else macs + count
    return {
        "parameters": sum(int(np.prod(tensor.dims)) for _, tensor in held),
        "macs": macs,
        "operators": dict(sorted(operators.items())),
        "sparsity": sparsity,
    }


def _weight_sources(graph: Any, weights: dict[str, Any]) -> dict[str, str]:
    """The initializer behind each tensor, seen through a DequantizeLinear."""
    source = {name: name for name in weights}
    for node in graph.node:
        if node.op_type in ("DequantizeLinear", "Cast") and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
    return source


def _known_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (RuntimeError, onnx.shape_inference.InferenceError):
        graph = model.graph
    shapes = {}
    for item in [*graph.input, *graph.value_info, *graph.output]:
        dims = item.type.tensor_type.shape.dim
        shapes[item.name] = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
    return shapes


def _count_macs(node: Any, dims: list[int], shapes: dict[str, list[int]]) -> int | None:
    """Multiply-accumulates per sample: weights times output positions."""
    size = int(np.prod(dims))
    if node.op_type in ("Gemm", "QGemm"):
        return size
    out = shapes.get(node.output[0])
    if not out or any(dim <= 0 for dim in out[1:]):
        return None
    if node.op_type in ("Conv", "QLinearConv", "ConvInteger"):
        return size * int(np.prod(out[2:]))
    if node.op_type == "ConvTranspose":
        inner = shapes.get(node.input[0])
        known = inner and all(dim > 0 for dim in inner[2:])
        return size * int(np.prod(inner[2:])) if inner and known else None
    return size * int(np.prod(out[1:-1]))


def _zero_share(tensor: Any, node: Any) -> float:
    values = numpy_helper.to_array(tensor)
    return round(float(np.mean(values == 0)), 4) if values.size else 0.0


def attributes_of(node: Any) -> dict[str, Any]:
    """A node's attributes as plain values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without value_info, doc strings and node metadata, which weigh in small models."""
    graph = model.graph
    del graph.value_info[:]
    graph.doc_string = ""
    del graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
    model.doc_string = ""
    return model
