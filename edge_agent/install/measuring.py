"""What a self-test measures of a release on this device, in the child process.

The golden vectors hold the answers that the server's machine got. A processor with other kernels
may answer otherwise, so how often it does is told, whether the test is passed or not.
"""

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.control.processor import read_instruction_sets, read_processor_name

if TYPE_CHECKING:
    from edge_agent.inference.session import Array, ModelSession

TRUTH = "truth"
"""The array of golden vectors with the class of each row as its data set has it; -1: unknown."""
TIMED_RUNS = 9
TIMED_SECONDS = 2.0


def measure(
    session: "ModelSession",
    inputs: "Mapping[str, Array]",
    outputs: "Mapping[str, Array]",
    expected: "Mapping[str, Array]",
    truth: "Array | None",
    rules: Mapping[str, Any],
) -> dict[str, Any]:
    """The `self_test` of an installation report (docs/protocol.md).

    Args:
        outputs: what the release answers here; of the shapes of `expected`.
        truth: the class of each row, where the golden vectors have it.
        rules: `atol`, `rtol` and `min_fraction` of the manifest.
    """
    agreeing = rows_agreeing(session.scores_name, outputs, expected, rules)
    classes = read_classes(session.scores_name, outputs)
    labelled = right = 0
    if truth is not None and classes is not None and truth.shape == classes.shape:
        labelled = int((truth >= 0).sum())
        right = int((classes == truth)[truth >= 0].sum())
    return {
        "rows": len(agreeing),
        "agreed": int(agreeing.sum()),
        "labelled": labelled,
        "right": right,
        "latency_ms": time_one(session, inputs),
        "processor": read_processor_name(),
        "isa": read_instruction_sets(),
    }


def rows_agreeing(
    scores: str,
    outputs: "Mapping[str, Array]",
    expected: "Mapping[str, Array]",
    rules: Mapping[str, Any],
) -> "Array":
    """Which rows are answered as expected, bool `[rows]`.

    A classifier's row agrees when its class is the expected one, whatever the scores; any other
    row when enough of its numbers lie within the tolerance. Outputs that have not one entry per
    row count as one row.
    """
    got, want = read_classes(scores, outputs), read_classes(scores, expected)
    if got is not None and want is not None:
        return np.asarray(got == want)
    lengths = {len(array) if array.ndim else 0 for array in expected.values()}
    rows = lengths.pop() if len(lengths) == 1 and 0 not in lengths else 1
    close = []
    for name, wanted in expected.items():
        bound = rules.get("atol", 1e-3) + rules.get("rtol", 1e-3) * np.abs(wanted)
        is_close = np.abs(outputs[name].astype(np.float64) - wanted) <= bound
        close.append(is_close.reshape(rows, -1))
    if not close:
        return np.zeros(0, bool)
    return np.asarray(np.concatenate(close, axis=1).mean(axis=1) >= rules.get("min_fraction", 1.0))


def read_classes(scores: str, outputs: "Mapping[str, Array]") -> "Array | None":
    """The class of each row, int `[rows]`; None where the output is not one score per class."""
    array = outputs.get(scores)
    if array is None or array.ndim < 2 or array[0].size < 2:
        return None
    return np.asarray(array.reshape(len(array), -1).argmax(axis=1))


def time_one(session: "ModelSession", inputs: "Mapping[str, Array]") -> float:
    """Median milliseconds of one row; of the whole batch where the model takes no other."""
    shapes = [shape for _, shape in session.inputs.values()]
    is_free = all(shape and not isinstance(shape[0], int) for shape in shapes)
    feed = {name: array[:1] if is_free else array for name, array in inputs.items()}
    session.run(feed)
    taken: list[float] = []
    began = time.monotonic()
    while len(taken) < TIMED_RUNS and (not taken or time.monotonic() - began < TIMED_SECONDS):
        taken.append(session.run(feed)[1] / 1e6)
    return round(statistics.median(taken), 4)
