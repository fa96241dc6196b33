"""ONNX Runtime sessions with fixed threads, and batched runs over samples. Pure."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from compression.measure.samples import Samples

ort.set_default_logger_severity(3)
BATCH_ROWS = 128
# Activations are many times larger than inputs: a batch of large inputs must not fill the memory.
MAX_FEED_BYTES = 8 * 1024**2


def open_session(
    model: Path | bytes, *, threads: int = 1, is_optimized: bool = True
) -> ort.InferenceSession:
    """A CPU session that does not spin while it waits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not is_optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_samples(
    session: ort.InferenceSession,
    samples: Samples,
    outputs: list[str] | None = None,
    rows: int = BATCH_ROWS,
) -> list[NDArray]:
    """The outputs for all samples, each with the rows on its first axis.

    With a fixed batch size the last, incomplete batch is filled up and the filling cut off again.

    Args:
        outputs: those of the graph, or inputs, which come as they are fed; None takes all that
            have rows.
    """
    names = outputs or list_row_outputs(session, samples)
    size = max(1, min(rows, MAX_FEED_BYTES // max(row_bytes(samples), 1)))
    parts: dict[str, list[NDArray]] = {name: [] for name in names}
    counts = []
    for feed, count in samples.batches(size):
        asked = [name for name in names if name not in feed]
        found = dict(zip(asked, session.run(asked, feed) if asked else (), strict=True))
        for name in names:
            parts[name].append(np.asarray(feed[name] if name in feed else found[name]))
        counts.append(count)
    whole = samples.count_rows(size)
    return [
        join_batches(values, counts, whole, samples.output_axes.get(name, 0))
        for name, values in parts.items()
    ]


def list_row_outputs(session: ort.InferenceSession, samples: Samples) -> list[str]:
    """The outputs that answer row by row."""
    names = [item.name for item in session.get_outputs()]
    return [name for name in names if samples.output_axes.get(name, 0) is not None] or names


def row_bytes(samples: Samples) -> int:
    """What the inputs of one row take."""
    return sum(value[:1].nbytes for value in samples.row_arrays)


def join_batches(parts: list[NDArray], counts: list[int], whole: int, axis: int | None) -> NDArray:
    """One array of what calls gave, the rows on its first axis.

    Args:
        counts: how many rows of each call count.
        whole: how many rows a complete call has.
        axis: of the rows; None: each call's array is the answer to its one row. Such answers may
            be of different sizes, and are filled up with 0, or -1 where they are whole numbers.
    """
    if axis is None:
        return _stack(parts)
    rows = []
    for part, count in zip(parts, counts, strict=True):
        moved = np.moveaxis(np.atleast_1d(part), axis, 0)
        # Inside a graph the first axis need not hold the rows, and then nothing is filled up.
        rows.append(moved[:count] if len(moved) == whole else moved)
    # Nor can an incomplete batch be joined then: what is there speaks for it.
    return np.concatenate([part for part in rows if part.shape[1:] == rows[0].shape[1:]])


def _stack(parts: list[NDArray]) -> NDArray:
    shapes = {part.shape for part in parts}
    if len(shapes) == 1:
        return np.stack(parts)
    rank = max(part.ndim for part in parts)
    shape = [max(part.shape[axis] for part in parts) for axis in range(rank)]
    filling = -1 if parts[0].dtype.kind == "i" else 0
    joined = np.full((len(parts), *shape), filling, parts[0].dtype)
    for index, part in enumerate(parts):
        joined[index][tuple(slice(size) for size in part.shape)] = part
    return joined
