"""INT8 weights and activations, the latter's ranges from calibration samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from compression.engine.graph.order import names_read
from compression.engine.passes.calibration import Ranges, calibrate
from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.culprits import find_problem, spare_culprits
from compression.engine.passes.excluded import list_excluded
from compression.engine.passes.known_types import state_types
from compression.engine.passes.quantize import (
    IsaPreset,
    make_quantizable,
    run_static,
    static_settings,
)
from compression.engine.passes.uneven_columns import find_tail, find_uneven_joins, measure_columns
from compression.exceptions import DataSetUnusableError, ModelUnsupportedError
from compression.measure.samples import Samples

# 3x3 of three channels gained by FP32, 7x7 of three lost by it.
MAX_ENTRY_PRODUCTS = 32
NARROW_ENTRY = "a first layer of few products per value is faster in FP32 (first_layer)"
SHARED_INPUT = "another node reads what it cuts off"
_QUANTIZABLE = {*QDQRegistry, *QLinearOpsRegistry}


def quantize_statically(context: PassContext) -> PassResult:
    """A model of integer operators, or of pairs of quantizing nodes where those cannot say it.

    Raises:
        DataSetUnusableError: there are no calibration samples.
        ModelUnsupportedError: the graph cannot be written in the format asked for.
    """
    parameters = context.parameters
    if context.calibration is None:
        raise DataSetUnusableError("quantize.static needs calibration samples.")
    samples = context.calibration.pick(parameters["samples"], context.seed)
    settings = static_settings(parameters, context.target.isa)
    named = make_quantizable(context.source, context.scratch / "named.onnx")
    source = state_types(named, context.scratch / "typed.onnx")
    ranges = calibrate(
        source,
        samples,
        context.scratch,
        parameters=parameters,
        is_symmetric=settings.is_symmetric,
        report_progress=context.report_progress,
    )
    graph = onnx.load(str(source), load_external_data=False).graph
    reasons = find_uneven_joins(graph, ranges.path)
    if settings.first_layer == "fp32":
        reasons |= dict.fromkeys(find_narrow_entries(graph), NARROW_ENTRY)
    if settings.format == "qoperator":
        reasons |= dict.fromkeys(find_shared_activations(graph), SHARED_INPUT)
    reasons |= list_excluded(context)
    work = _Work(context, source, ranges, settings)
    if settings.format == "qoperator" and not parameters["format"]:
        # Its writer gives up where a weight or a type is not known, and writes some products that
        # ONNX Runtime does not compute, a matrix by a vector for example. Pairs say all of that.
        if find_problem(work.quantize, context, list(reasons)):
            work = replace(work, settings=replace(settings, format="qdq"))
            reasons |= work.spare_culprits(graph, reasons)
    else:
        reasons |= work.spare_culprits(graph, reasons)
    reasons |= work.spare_tail(graph, samples, reasons)
    facts = {
        "samples": len(samples),
        "method": ranges.method,
        "activation": settings.activation,
        "weight": settings.weight,
        "format": work.settings.format,
        "symmetric": settings.is_symmetric,
        "reduce_range": settings.reduce_range,
        "first_layer": settings.first_layer,
    }
    return PassResult(reasons, facts)


@dataclass(frozen=True)
class _Work:
    """A calibrated graph, quantized in one format."""

    context: PassContext
    source: Path
    ranges: Ranges
    settings: IsaPreset

    def quantize(self, excluded: Sequence[str], only: Sequence[str] | None = None) -> None:
        """Writes the destination."""
        run_static(
            self.source,
            self.context.destination,
            self.ranges,
            self.context.parameters,
            self.settings,
            excluded=list(excluded),
            only=None if only is None else list(only),
        )

    def spare_culprits(self, graph: onnx.GraphProto, reasons: dict[str, str]) -> dict[str, str]:
        """Quantizes, without the nodes that the quantizer gives up on."""
        candidates = [node.name for node in graph.node if node.op_type in _QUANTIZABLE]
        excluded = list(reasons)
        try:
            return spare_culprits(
                "quantize.static", self.quantize, self.context, candidates, excluded
            )
        except ModelUnsupportedError as error:
            if self.settings.format != "qoperator":
                raise
            raise ModelUnsupportedError(
                f"QOperator has no way to write this graph; the format qdq may have. {error}"
            ) from error

    def spare_tail(
        self, graph: onnx.GraphProto, samples: Samples, reasons: dict[str, str]
    ) -> dict[str, str]:
        """Quantizes again without what loses columns of outputs, where that halves the error.

        A factor for each column puts columns of different ranges into one tensor, as a Concat does.
        """
        context = self.context
        before = measure_columns(context.source, context.destination, samples)
        tail = find_tail(graph, before)
        fewer = {name: reason for name, reason in tail.items() if name not in reasons}
        if not fewer:
            return {}
        first = context.destination.read_bytes()
        self.quantize([*reasons, *fewer])
        after = measure_columns(context.source, context.destination, samples)
        if max(after.values()) <= max(before.values()) / 2:
            return fewer
        context.destination.write_bytes(first)
        return {}


def find_shared_activations(graph: onnx.GraphProto) -> list[str]:
    """Relu and Clip of a tensor that something else reads too.

    QOperator joins them with what writes the tensor: its scale then has no room for what they cut
    off, or they are dropped although it has, and one of the readers gets wrong values.
    """
    readers: dict[str, int] = {item.name: 1 for item in graph.output}
    for node in graph.node:
        for name in names_read(node):
            readers[name] = readers.get(name, 0) + 1
    cut = (node for node in graph.node if node.op_type in ("Relu", "Clip"))
    return [node.name for node in cut if readers[node.input[0]] > 1]


def find_narrow_entries(graph: onnx.GraphProto) -> list[str]:
    """Convolutions of few products per value that read an input; none where there is no other."""
    inputs = {item.name for item in graph.input}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    found = [
        node.name
        for node in products
        if node.op_type == "Conv"
        and node.input[0] in inputs
        and node.input[1] in weights
        and math.prod(weights[node.input[1]].dims[1:]) <= MAX_ENTRY_PRODUCTS
        and node.name
    ]
    return found if len(found) < len(products) else []
