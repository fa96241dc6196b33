"""Weights alone stored in 8 or 16 bits, and weights zeroed where they are smallest."""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compression.engine.graph.names import reserve_names
from compression.engine.graph.structure import attributes_of
from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.excluded import list_excluded
from compression.engine.passes.finish import finish_model
from compression.engine.passes.modernize import raise_opset
from compression.exceptions import ModelUnsupportedError
from registry.validation.rules import default_opset

OPSET_FOR_INT16 = 21
OPSET_FOR_AXIS = 13
MICROSOFT = "com.microsoft"
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gather": 0}
_MIN_ELEMENTS = 64


def quantize_weights(context: PassContext) -> PassResult:
    """Stores weights as integers with a scale per output channel; computing stays in FP32."""
    bits = context.parameters["bits"]
    model = reserve_names(onnx.load(str(context.source)))
    model = raise_opset(model, OPSET_FOR_INT16 if bits == 16 else OPSET_FOR_AXIS)
    excluded = list_excluded(context)
    stored = store_weights(model, weight_axes(model, set(excluded)), bits)
    if not stored:
        raise ModelUnsupportedError("quantize.weights found no weight worth storing smaller.")
    finish_model(model, context.destination)
    facts = {"bits": bits, "tensors": stored}
    return PassResult(excluded, facts)


def store_weights(model: onnx.ModelProto, axes: dict[str, int], bits: int) -> int:
    """Replaces FP32 weights, given with their channel axis, in place; returns how many."""
    graph = model.graph
    domain = int16_domain(model) if bits == 16 and axes else ""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    inserted: list[Any] = []
    for name, axis in axes.items():
        values = numpy_helper.to_array(tensors[name])
        integers, scale = quantize_tensor(values, axis, bits)
        tensors[name].CopyFrom(numpy_helper.from_array(integers, f"{name}_stored"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        inserted.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_stored", f"{name}_scale"],
                [name],
                name=f"{name}_dequantize",
                axis=axis,
                domain=domain,
            )
        )
    nodes = [*inserted, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(inserted)


def int16_domain(model: onnx.ModelProto) -> str:
    """The domain whose Quantize/DequantizeLinear take 16 bits: ONNX's own from opset 21 on."""
    if default_opset(model) >= OPSET_FOR_INT16:
        return ""
    if not any(item.domain == MICROSOFT for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return MICROSOFT


def quantize_tensor(values: NDArray, axis: int, bits: int) -> tuple[NDArray, NDArray[np.float32]]:
    """Symmetric integers of `bits` bits and one scale for each slice along `axis`."""
    limit = 2 ** (bits - 1) - 1
    others = tuple(index for index in range(values.ndim) if index != axis)
    peak = np.abs(values).max(axis=others)
    scale = np.where(peak > 0, peak / limit, 1.0).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = -1
    integers = np.clip(np.rint(values / scale.reshape(shape)), -limit, limit)
    return integers.astype(np.int8 if bits == 8 else np.int16), scale


def prune_unstructured(context: PassContext) -> PassResult:
    """Zeroes the smallest weights of the whole model by magnitude (L1, global threshold)."""
    model = onnx.load(str(context.source))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = [tensors[name] for name in weight_axes(model, set())]
    if not chosen:
        raise ModelUnsupportedError("prune.unstructured found no weights.")
    magnitudes = np.concatenate([np.abs(numpy_helper.to_array(t)).ravel() for t in chosen])
    threshold = np.quantile(magnitudes, context.parameters["ratio"])
    for tensor in chosen:
        values = numpy_helper.to_array(tensor)
        kept = np.where(np.abs(values) <= threshold, 0, values).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(kept, tensor.name))
    onnx.save(model, str(context.destination))
    note = "Sparsity alone: the file and the latency stay as they were."
    return PassResult(facts={"zeroed": float(np.mean(magnitudes <= threshold)), "note": note})


def weight_axes(model: onnx.ModelProto, excluded: set[str]) -> dict[str, int]:
    """FP32 weights of convolutions, products and tables by name, with the axis of their scales."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    axes = {}
    for node in model.graph.node:
        index = 0 if node.op_type == "Gather" else 1
        if node.name in excluded or len(node.input) < 2 or node.input[index] not in tensors:
            continue
        tensor = tensors[node.input[index]]
        is_large = math.prod(tensor.dims) >= _MIN_ELEMENTS and len(tensor.dims) >= 2
        if tensor.data_type != onnx.TensorProto.FLOAT or not is_large:
            continue
        if node.op_type == "Gemm":
            axes[tensor.name] = 0 if attributes_of(node).get("transB", 0) else 1
        elif node.op_type in _CHANNEL_AXIS:
            axes[tensor.name] = min(_CHANNEL_AXIS[node.op_type], len(tensor.dims) - 1)
    return axes
