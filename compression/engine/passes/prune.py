"""Structured pruning as a pass: choose, drop, repair."""

from typing import Any

import onnx

from compression.engine.graph.names import name_nodes
from compression.engine.graph.structure import strip_metadata
from compression.engine.passes.context import PassContext, PassResult
from compression.engine.pruning.graph import PruningGraph
from compression.engine.pruning.normalize import count_parameters
from compression.engine.pruning.pruner import Pruner, cut_and_repair
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.recipe.alignment import FLOAT_ALIGNMENT


def prune_structured(context: PassContext) -> PassResult:
    """Removes the wanted share of channels and repairs what read them."""
    if context.calibration is None:
        raise DataSetUnusableError("prune.structured needs calibration samples.")
    parameters = context.parameters
    samples = context.calibration.pick(parameters["samples"], context.seed)
    model = onnx.load(str(context.source))
    pruner = Pruner(
        PruningGraph(model),
        samples,
        # A recipe has decided it from the passes that follow.
        align=parameters["align"] or FLOAT_ALIGNMENT,
        min_keep=parameters["min_keep"],
        latency_share=parameters["latency_share"],
        threads=context.threads,
        report_progress=context.report_progress,
        folder=context.scratch,
    )
    ratio, is_uniform = parameters["ratio"], parameters["allocation"] == "uniform"
    ratios = [ratio] * len(pruner.importances) if is_uniform else pruner.spread_ratio(ratio)
    dropped = pruner.choose(ratios)
    widths = [len(item) for item in pruner.importances]
    if not dropped:
        multiple = f"{pruner.align}"
        if pruner.align > FLOAT_ALIGNMENT:
            multiple += f", or of {FLOAT_ALIGNMENT} where that leaves nothing to remove"
        raise ModelUnsupportedError(
            f"Nothing was removed: {ratio:.0%} of no group is a whole step. Widths stay multiples "
            f"of {multiple}, and at least {parameters['min_keep']}; the widest group has "
            f"{max(widths)} channels."
        )
    result, repaired = cut_and_repair(
        pruner, ratios, is_repaired=parameters["repair"], seed=context.seed
    )
    name_nodes(result)
    onnx.save(strip_metadata(result), str(context.destination))
    facts: dict[str, Any] = {
        "parameters_before": count_parameters(pruner.graph.model),
        "parameters_after": count_parameters(result),
        # Convolutions and products by the model of kernels that weighed the groups.
        "estimated_microseconds_before": round(pruner.estimate_time(set()) / 1000.0, 2),
        "estimated_microseconds_after": round(pruner.estimate_time(dropped) / 1000.0, 2),
        "align": pruner.align,
        "groups": len(widths),
        "widths": widths,
        "ratios": ratios,
        "repaired": len(repaired),
        "pinned": pruner.graph.table.pin_reasons,
    }
    return PassResult(facts=facts)
