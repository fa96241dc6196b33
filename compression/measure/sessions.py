"""ONNX Runtime sessions with fixed threads, and batched runs over samples. Pure."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from compression.measure.samples import Samples, input_specs

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


def batch_rows(session: ort.InferenceSession, wanted: int = BATCH_ROWS) -> int:
    """How many rows one run takes: the graph's own batch size where it is fixed."""
    fixed = input_specs(session)[0].batch
    return fixed or wanted


def run_samples(
    session: ort.InferenceSession,
    samples: Samples,
    outputs: list[str] | None = None,
    rows: int = BATCH_ROWS,
) -> list[NDArray]:
    """The outputs for all samples, joined along the batch axis.

    With a fixed batch size the last, incomplete batch is filled up and the filling cut off again.
    """
    row_bytes = max(sum(value[:1].nbytes for value in samples.inputs.values()), 1)
    size = batch_rows(session, max(1, min(rows, MAX_FEED_BYTES // row_bytes)))
    is_fixed = input_specs(session)[0].batch is not None
    names = outputs or [item.name for item in session.get_outputs()]
    parts: list[list[NDArray]] = []
    for feed in samples.batches(size):
        count = len(next(iter(feed.values())))
        if is_fixed and count < size:
            feed = {key: np.resize(value, (size, *value.shape[1:])) for key, value in feed.items()}
        parts.append([np.asarray(value)[:count] for value in session.run(names, feed)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
