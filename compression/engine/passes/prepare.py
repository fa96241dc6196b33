"""Shape inference, batch-norm folding and clean-up before anything else looks at the graph."""

from pathlib import Path

import onnx
import onnxruntime as ort
from onnxruntime.quantization import quant_pre_process

from compression.engine.graph.names import name_nodes
from compression.engine.graph.structure import strip_metadata
from compression.engine.passes.context import PassContext, PassResult


def prepare(context: PassContext) -> PassResult:
    """Folds constants and batch norms, names every node and strips what only tools read."""
    before = len(onnx.load(str(context.source)).graph.node)
    prepare_file(context.source, context.destination)
    model = onnx.load(str(context.destination))
    return PassResult(facts={"nodes_before": before, "nodes_after": len(model.graph.node)})


def prepare_file(source: Path, destination: Path) -> None:
    """Writes the prepared model; inferred shapes are kept only while quantizing needs them."""
    ort.set_default_logger_severity(3)
    quant_pre_process(
        str(source), str(destination), skip_symbolic_shape=True, auto_merge=True, verbose=0
    )
    model = strip_metadata(onnx.load(str(destination)))
    model.ir_version = min(model.ir_version, 10)
    name_nodes(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(destination))
