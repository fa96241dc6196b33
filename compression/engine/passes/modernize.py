"""Graphs brought into the form the passes need: one file, opset 13, weights that are no inputs."""

from pathlib import Path

import onnx
import onnx.inliner
from onnx import version_converter

from compression.engine.graph.constants import lift_constants
from compression.engine.graph.dead import drop_dead_nodes
from compression.exceptions import ModelUnsupportedError
from registry.validation.rules import default_opset

MIN_OPSET = 13
MIN_IR_VERSION = 7


def modernize_file(source: Path, destination: Path) -> list[str]:
    """Writes a model that the passes can start from where `source` is none, and says what changed.

    Per-channel scales exist from opset 13 on; before IR version 4 every weight was an input that a
    caller could replace, so nothing could be folded into it; weights outside of the file and local
    functions are not seen by all tools. An empty list: nothing was written.

    Raises:
        ModelUnsupportedError: the converter does not know an operator.
    """
    bare = onnx.load(str(source), load_external_data=False)
    outside = any(map(_is_external, bare.graph.initializer))
    model = onnx.load(str(source))
    opset = default_opset(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    named = [item for item in model.graph.input if item.name in weights]
    changes = []
    # The converter takes a weight that is no input only from a version that has such.
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
    if outside:
        changes.append("Weights were brought into the model's own file.")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
        changes.append("Local functions were written out.")
    if named:
        for item in named:
            model.graph.input.remove(item)
        changes.append("Weights that were listed as inputs are none any more.")
    if opset < MIN_OPSET:
        model = raise_opset(model, MIN_OPSET)
        changes.append(f"The graph was raised from opset {opset} to {MIN_OPSET}.")
    freed = _free_dimensions(model.graph)
    if freed:
        changes.append(f"Dimensions of -1 were written as free ones: {freed}.")
    dropped = drop_dead_nodes(model.graph)
    if dropped:
        changes.append(f"Nodes that nothing reads were dropped: {dropped}.")
    lifted = lift_constants(model.graph)
    if lifted:
        changes.append(f"Weights in {lifted} Constant nodes became initializers.")
    if changes:
        onnx.save(model, str(destination))
    return changes


def _free_dimensions(graph: onnx.GraphProto) -> int:
    """Gives dimensions of -1 a name, in place; returns how many. Tools take the number for a size.

    The first one of each tensor, its rows, has the same name everywhere.
    """
    freed = 0
    for item in [*graph.input, *graph.value_info, *graph.output]:
        for place, dim in enumerate(item.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == -1:
                dim.dim_param = "rows" if place == 0 else f"{item.name}_{place}"
                freed += 1
    return freed


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def raise_opset(model: onnx.ModelProto, minimum: int) -> onnx.ModelProto:
    """The model in at least that opset.

    Raises:
        ModelUnsupportedError: the converter does not know an operator.
    """
    opset = default_opset(model)
    if opset >= minimum:
        return model
    try:
        return version_converter.convert_version(model, minimum)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModelUnsupportedError(
            f"The graph cannot be raised from opset {opset} to {minimum}: {str(error)[:300]}"
        ) from error
