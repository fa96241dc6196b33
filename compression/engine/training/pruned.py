"""A student cut out of its source: the same graph, with as few channels as its size allows.

Shape and starting weights come from structured pruning with least-squares repair, so that training
starts from a model that answers already (Muralidharan et al. 2024, "Compact Language Models via
Pruning and Knowledge Distillation").
"""

import math
from pathlib import Path
from typing import Any

import onnx

from compression.engine.graph.names import name_nodes
from compression.engine.graph.structure import strip_metadata
from compression.engine.passes.context import PassContext
from compression.engine.passes.prepare import prepare_file
from compression.engine.pruning.graph import PruningGraph
from compression.engine.pruning.normalize import count_parameters
from compression.engine.pruning.pruner import Pruner, cut_and_repair
from compression.engine.pruning.surgery import kept_shapes
from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from compression.recipe.alignment import FLOAT_ALIGNMENT

# Few rows see no more of the channels than many do, and pruning is not to outlast training.
MAX_ROWS = 512
# Of INT8: a weight is one byte; a channel has a bias and a scale of four bytes each, and a layer
# its operator, names and zero points.
CHANNEL_BYTES = 8
LAYER_BYTES = 400
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def cut_student(
    context: PassContext, samples: Samples, ratio: float
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The source as INT8 a `ratio`th of the original's FP32 file, in FP32, and what was done.

    Where even the narrowest widths leave more, they are taken. Batch norms are folded first.

    Args:
        samples: calibration samples; the first `MAX_ROWS` are used.

    Raises:
        ModelUnsupportedError: no channel can be removed, or none needs to be.
    """
    prepared = context.scratch / "prepared.onnx"
    prepare_file(context.source, prepared)
    rows = samples.pick(MAX_ROWS, context.seed)
    pruner = Pruner(
        PruningGraph(onnx.load(str(prepared))),
        rows,
        align=FLOAT_ALIGNMENT,
        threads=context.threads,
        folder=context.scratch,
    )
    allowed = Path(context.original).stat().st_size / ratio
    before = estimate_int8_bytes(pruner.graph, set())
    if before <= allowed:
        raise ModelUnsupportedError(
            f"Nothing needs to be pruned: as INT8 the source takes about {before:,} bytes, and "
            f"a {ratio:g}th of the original is {allowed:,.0f}."
        )
    ratios = pruner.reach_size(lambda dropped: estimate_int8_bytes(pruner.graph, dropped), allowed)
    model, _ = cut_and_repair(pruner, ratios, seed=context.seed)
    name_nodes(model)
    dropped = pruner.choose(ratios)
    facts = {
        "ratios": ratios,
        "parameters_before": count_parameters(pruner.graph.model),
        "parameters_after": count_parameters(model),
        "expected_int8_bytes": estimate_int8_bytes(pruner.graph, dropped),
    }
    return strip_metadata(model), facts


def estimate_int8_bytes(graph: PruningGraph, dropped: set[int]) -> int:
    """About what static INT8 makes of the graph without the dropped classes."""
    layers = sum(node.op_type in _LAYERS for node in graph.model.graph.node)
    weights = channels = 0
    for shape in kept_shapes(graph, dropped).values():
        if len(shape) > 1:
            weights += math.prod(shape)
        else:
            channels += math.prod(shape)
    return weights + CHANNEL_BYTES * channels + LAYER_BYTES * layers
