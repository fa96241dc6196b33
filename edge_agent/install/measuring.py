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
from edge_agent.reading.golden import mark_close, to_array
from edge_agent.reading.inputs import choose_described
from edge_agent.reading.reader import Reader

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
    rows = count_rows(session, inputs)
    classes = read_classes(session.reader, [*outputs.values()], rows)
    wanted = read_classes(session.reader, [expected.get(name) for name in outputs], rows)
    agreeing = rows_agreeing(classes, wanted, outputs, expected, rules)
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
    got: "Array | None",
    want: "Array | None",
    outputs: "Mapping[str, Any]",
    expected: "Mapping[str, Array]",
    rules: Mapping[str, Any],
) -> "Array":
    """Which rows are answered as expected, bool `[rows]`.

    A classifier's row agrees when its class is the expected one, whatever the scores; any other
    row when enough of its numbers lie within the tolerance. Outputs that have not one entry per
    row count as one row.

    Args:
        got, want: the class of each row, int `[rows]`; None where there are none.
    """
    if got is not None and want is not None:
        return np.asarray(got == want)
    lengths = {len(array) if array.ndim else 0 for array in expected.values()}
    rows = lengths.pop() if len(lengths) == 1 and 0 not in lengths else 1
    close = []
    for name, wanted in expected.items():
        found = to_array(outputs[name])
        if found is None:
            continue
        is_close = mark_close(wanted, found, rules.get("atol", 1e-3), rules.get("rtol", 1e-3))
        close.append(is_close.reshape(rows, -1))
    if not close:
        return np.zeros(0, bool)
    return np.asarray(np.concatenate(close, axis=1).mean(axis=1) >= rules.get("min_fraction", 1.0))


def count_rows(session: "ModelSession", inputs: "Mapping[str, Array]") -> int:
    """How many rows the inputs hold, on the axis that the contract has them on."""
    contract = session.reader.contract
    name = choose_described(contract, session.input_names)
    axis = contract.input_batch_axes.get(name, 0)
    array = inputs[name]
    return 1 if axis is None or array.ndim <= axis else array.shape[axis]


def read_classes(reader: Reader, outputs: "list[Any]", rows: int) -> "Array | None":
    """The class of each row, int `[rows]`; None where the task has none, or an output is missing,
    or stored in another form than the model gives it."""
    if not reader.contract.has_classes or outputs[reader.index] is None:
        return None
    readings = [reader.try_read(outputs, row) for row in range(rows)]
    numbers = [reading.class_id for reading in readings]
    return None if None in numbers else np.array(numbers, dtype=np.int64)


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
