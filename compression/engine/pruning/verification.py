"""The property that pruning rests on, checked on the very model that is pruned."""

import numpy as np
import onnx

from compression.engine.pruning.graph import PruningGraph
from compression.engine.pruning.surgery import mask_classes
from compression.exceptions import ModelUnsupportedError
from compression.measure.samples import Samples
from compression.measure.sessions import list_row_outputs, open_session, run_samples

# FP32 sums in another order differ by about 1e-6 of their size, a wrong channel by far more.
TOLERANCE = 1e-3


def check_pruned(
    graph: PruningGraph, pruned: onnx.ModelProto, dropped: set[int], samples: Samples
) -> None:
    """Refuses a model that does not equal the original with the reading slices set to zero.

    The rules are written so that it does; an operator used in a way they do not foresee must end
    in a refusal and never in a wrong model. A few samples are enough. Outputs of integers are left
    out: a tie may fall either way.

    Raises:
        ModelUnsupportedError: naming the output and how far it is off.
    """
    models = (pruned, mask_classes(graph, dropped))
    sessions = [open_session(model.SerializeToString()) for model in models]
    names = list_row_outputs(sessions[0], samples)
    got, expected = (run_samples(session, samples, names) for session in sessions)
    for name, left, right in zip(names, got, expected, strict=True):
        is_ragged = samples.output_axes.get(name, 0) is None
        if is_ragged and right.dtype.kind != "f":
            continue
        if left.shape != right.shape:
            raise ModelUnsupportedError(
                f"Pruning would change the shape of output {name!r} from {right.shape} to "
                f"{left.shape}: this graph is not understood."
            )
        if right.dtype.kind != "f":
            continue
        scale = max(1.0, float(np.abs(right).max(initial=0.0)))
        error = float(np.abs(left.astype(np.float64) - right).max(initial=0.0)) / scale
        if error > TOLERANCE:
            raise ModelUnsupportedError(
                f"Pruning would move output {name!r} by {error:.3g} of its size beyond what the "
                "dropped channels explain: this graph is not understood."
            )
