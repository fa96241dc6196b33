"""INT8 without data: activations are quantized while running."""

from collections.abc import Sequence

import onnx
from onnxruntime.quantization import quantize_dynamic

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.culprits import spare_culprits
from compression.engine.passes.excluded import list_excluded
from compression.engine.passes.finish import finish_file
from compression.engine.passes.known_types import state_types
from compression.engine.passes.quantize import ISA_PRESETS, TYPES, make_quantizable

_PRODUCTS = {"Conv", "MatMul", "Gemm", "Gather", "LSTM", "Attention", "EmbedLayerNormalization"}


def quantize_dynamically(context: PassContext) -> PassResult:
    """INT8 weights; activations are quantized while running. Needs no data."""
    parameters, preset = context.parameters, ISA_PRESETS[context.target.isa]
    reasons = list_excluded(context)
    named = make_quantizable(context.source, context.scratch / "named.onnx")
    source = state_types(named, context.scratch / "typed.onnx")
    nodes = onnx.load(str(source), load_external_data=False).graph.node
    gemms = {node.name for node in nodes if node.op_type == "Gemm"}

    def with_products(names: Sequence[str]) -> list[str]:
        # The quantizer first writes a Gemm as a MatMul of another name and an Add.
        return [*names, *(f"{name}_MatMul" for name in names if name in gemms)]

    def quantize(excluded: Sequence[str], only: Sequence[str] | None) -> None:
        quantize_dynamic(
            str(source),
            str(context.destination),
            weight_type=TYPES[parameters["weight"]],
            per_channel=parameters["per_channel"],
            # The activations are U8; with weights of U8 no kernel saturates, whatever their range.
            reduce_range=parameters["weight"] == "qint8" and preset.reduce_range,
            nodes_to_exclude=with_products(excluded),
            nodes_to_quantize=None if only is None else with_products(only),
        )
        finish_file(context.destination)

    candidates = [node.name for node in nodes if node.op_type in _PRODUCTS]
    spared = spare_culprits("quantize.dynamic", quantize, context, candidates, list(reasons))
    return PassResult(reasons | spared)
