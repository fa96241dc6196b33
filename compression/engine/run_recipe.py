"""One order from its files to its report: load, check, passes, measure, judge, report."""

from pathlib import Path
from typing import Any

from compression.engine.stages.check import check
from compression.engine.stages.judge import judge
from compression.engine.stages.load import load
from compression.engine.stages.measure import measure
from compression.engine.stages.passes import Emit, run_passes
from compression.engine.stages.report import write_report


def run_chain(order: dict[str, Any], scratch: Path, emit: Emit) -> dict[str, Any]:
    """The report of an order; each stage is given what the one before it made.

    Args:
        order: names files inside `scratch`: `source`, `calibration` or None, `evaluation`; `done`
            lists the passes that a cache already had, each with its file and notes.
        emit: told of each step's start and end and of progress.

    Raises:
        CompressionError: why there is no result.
    """
    loaded = load(order, scratch)
    checked = check(loaded)
    compressed = run_passes(checked, emit)
    measured = measure(compressed, emit)
    return write_report(judge(measured))
