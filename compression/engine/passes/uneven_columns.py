"""Columns of different ranges in one tensor: boxes in pixels beside scores in [0, 1].

One scale for both would leave the scores a step or two. It is the last Concat of a detection head
that joins them, or a product with other factors per column. Such nodes, and what hands their result
on to the outputs, cost next to nothing in FP32.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import load_tensors_data

from compression.engine.graph.order import names_read
from compression.measure.samples import Samples
from compression.measure.sessions import list_row_outputs, open_session, run_samples
from compression.measure.statistics import worst_column
from compression.recipe.declaration import PRODUCTS

# The narrowest part then keeps at most 5 of 8 bits.
MIN_RATIO = 8.0
PROBE_ROWS = 64
# A column is lost when its error is as large as half of what it tells.
MAX_COLUMN_ERROR = 0.5


def find_uneven_joins(graph: onnx.GraphProto, ranges_path: Path) -> dict[str, str]:
    """Nodes to leave in FP32, by name with the reason.

    Args:
        ranges_path: the calibrated ranges.
    """
    peaks = _read_peaks(ranges_path)
    nodes = list(graph.node)
    leads_to_product = _find_leading(nodes)
    found: dict[str, str] = {}
    reached: set[str] = set()
    for node in nodes:
        if node.name in leads_to_product:
            continue
        sizes = [peaks[name] for name in node.input if peaks.get(name, 0.0) > 0.0]
        is_uneven = node.op_type == "Concat" and sizes and max(sizes) >= MIN_RATIO * min(sizes)
        if is_uneven:
            found[node.name] = (
                f"it joins values up to {max(sizes):.3g} with others up to {min(sizes):.3g}"
            )
        elif reached & set(node.input):
            found[node.name] = "it hands on what a Concat of uneven ranges has joined"
        if node.name in found:
            reached.update(name for name in node.output if name)
    return found


def measure_columns(original: Path, quantized: Path, samples: Samples) -> dict[str, float]:
    """The error of each output's worst column, see `statistics.worst_column`."""
    rows = samples.head(PROBE_ROWS)
    sessions = [open_session(path) for path in (original, quantized)]
    names = list_row_outputs(sessions[0], rows)
    expected, found = (run_samples(session, rows, names) for session in sessions)
    pairs = zip(expected, found, strict=True)
    return dict(zip(names, (worst_column(*pair) for pair in pairs), strict=True))


def find_tail(graph: onnx.GraphProto, errors: Mapping[str, float]) -> dict[str, str]:
    """The nodes between the last products and each output of which a column is lost."""
    writers = {name: node for node in graph.node for name in node.output if name}
    tail: dict[str, str] = {}
    for output, error in errors.items():
        waiting = [output] if error > MAX_COLUMN_ERROR else []
        while waiting:
            node = writers.get(waiting.pop())
            if node is None or node.name in tail or node.op_type in PRODUCTS:
                continue
            tail[node.name] = f"in INT8 it loses a column of {output}"
            waiting += names_read(node)
    return tail


def _read_peaks(path: Path) -> dict[str, float]:
    peaks = {}
    for name, data in load_tensors_data(path).items():
        low, high = (np.asarray(value, np.float64).reshape(-1) for value in data.range_value)
        peaks[name] = float(max(np.abs(low).max(), np.abs(high).max()))
    return peaks


def _find_leading(nodes: list[onnx.NodeProto]) -> set[str]:
    """Names of nodes from whose results a product is reached."""
    wanted: set[str] = set()
    leading = set()
    for node in reversed(nodes):
        if wanted & set(node.output):
            leading.add(node.name)
        if node.name in leading or node.op_type in PRODUCTS:
            wanted.update(names_read(node))
    return leading
