"""The rungs between INT8 and FP32: what a node that suffers from INT8 can be stored in instead.

On x86 and ARM a node left out of INT8 computes in FP32 anyway, so 16-bit activations would only add
work; NPUs compute A16W8, and FP32 not at all.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.calibrate import load_tensors_data

from compression.engine.passes.weights import int16_domain, store_weights, weight_axes

FP32 = "fp32"
RUNGS = ("a16w8", "w8", "w16")
LADDERS = {
    "portable": ("w8", "w16"),
    "x86-vnni": ("w8", "w16"),
    "x86-avx2": ("w8", "w16"),
    "arm64": ("w8", "w16"),
    "npu": RUNGS,
}
_UINT16_MAX = 65535


def apply_rung(model: onnx.ModelProto, node_name: str, rung: str, ranges_path: Path) -> bool:
    """Changes one FP32 node of a partly quantized model in place; False if nothing changed.

    Args:
        rung: `a16w8` (weights in 8 bits, activations rounded to 16), `w8` or `w16`.
        ranges_path: the calibrated ranges, for `a16w8`.
    """
    others = {node.name for node in model.graph.node} - {node_name}
    bits = 16 if rung == "w16" else 8
    stored = store_weights(model, weight_axes(model, others), bits)
    if rung != "a16w8":
        return stored > 0
    return round_activations(model, node_name, ranges_path) or stored > 0


def round_activations(model: onnx.ModelProto, node_name: str, ranges_path: Path) -> bool:
    """Puts a 16-bit Quantize/Dequantize pair before each activation that the node reads."""
    ranges = load_tensors_data(ranges_path)
    graph = model.graph
    index, node = next((i, item) for i, item in enumerate(graph.node) if item.name == node_name)
    pairs = []
    for position, name in enumerate(node.input):
        # Behind a DequantizeLinear of a neighbour the tensor is known by that one's name.
        known = name.removesuffix("_DequantizeLinear_Output")
        if known not in ranges or not name:
            continue
        low, high = (float(np.asarray(value).reshape(-1)[0]) for value in ranges[known].range_value)
        low, high = min(low, 0.0), max(high, 0.0)
        if high == low:
            continue
        scale = np.float32((high - low) / _UINT16_MAX)
        zero = np.uint16(np.clip(np.rint(-low / scale), 0, _UINT16_MAX))
        prefix = f"{node_name}_{position}_16"
        for value, suffix in ((scale, "scale"), (zero, "zero")):
            graph.initializer.append(
                numpy_helper.from_array(np.asarray(value), f"{prefix}_{suffix}")
            )
        operands = [f"{prefix}_scale", f"{prefix}_zero"]
        domain = int16_domain(model)
        for operator, source, target in (
            ("QuantizeLinear", name, f"{prefix}_stored"),
            ("DequantizeLinear", f"{prefix}_stored", f"{prefix}_rounded"),
        ):
            pairs.append(
                helper.make_node(
                    operator, [source, *operands], [target], f"{target}_{operator}", domain=domain
                )
            )
        node.input[position] = f"{prefix}_rounded"
    nodes = [*graph.node[:index], *pairs, *graph.node[index:]]
    del graph.node[:]
    graph.node.extend(nodes)
    return bool(pairs)
