"""What is right, wrong, or rightly refused. Pure.

A result is wrong when it is offered and its answers are not the source's: fewer than 90 % of rows
of the same class or probabilities that moved by more than 0.15, for classifiers; outputs further
than half of their own size, for anything else. It is good within the bounds that a person would set
(95 %, 0.2). A refusal is right when no peer of its kind does good and makes the file smaller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LEAST_AGREEMENT, GOOD_AGREEMENT = 0.9, 0.95
MOST_MOVED = 0.15
MOST_ERROR, GOOD_ERROR = 0.5, 0.2
LEAST_RATIO = 1.05
"""A file that is not this much smaller was not compressed."""
DONE, REFUSED, FAILED, WRONG = "done", "refused", "failed", "wrong"


@dataclass(frozen=True)
class Cell:
    """One tool's result on one model."""

    model: str
    tool: str
    kind: str
    state: str
    reason: str = ""
    agreement: float | None = None
    error: float | None = None
    ratio: float | None = None
    latency_ratio: float | None = None

    @property
    def is_good(self) -> bool:
        """Answers as they should be, in a smaller file."""
        if self.state != DONE or (self.ratio or 0) < LEAST_RATIO:
            return False
        if self.agreement is not None:
            return self.agreement >= GOOD_AGREEMENT
        return self.error is not None and self.error <= GOOD_ERROR


def judge_cell(model: str, tool: str, kind: str, *, row: Mapping[str, Any], ratio: float) -> Cell:
    """The cell of a result that the agent has tried."""
    if "error" in row and isinstance(row["error"], str):
        return Cell(model, tool, kind, WRONG, f"does not run: {row['error']}", ratio=ratio)
    agreement, error = row.get("agreement"), float(row["error"])
    reason = ""
    if row.get("unreadable"):
        reason = f"{row['unreadable']} answers that are not finite or cannot be read"
    elif agreement is not None and agreement < LEAST_AGREEMENT:
        reason = f"the same class for {agreement:.0%} of rows"
    elif agreement is not None and row.get("confidence_moved", 0.0) > MOST_MOVED:
        reason = f"probabilities moved by {row['confidence_moved']:.2f}"
    elif agreement is None and not error <= MOST_ERROR:
        reason = f"outputs are off by {error:.2f} of their size"
    return Cell(
        model, tool, kind, WRONG if reason else DONE, reason, agreement, error, ratio,
        row["latency_ratio"],
    )  # fmt: skip


def is_read_as(
    contract: Mapping[str, Any], *, task: str, form: str, output: str, activation: str
) -> bool:
    """Whether a contract reads what it should, as it should; `output` empty: none is read."""
    names = list(contract["outputs"].values())
    found = (contract["task"], contract["form"], names, contract.get("activation", "none"))
    return found == (task, form, [output] if output else [], activation)


def failures_where_a_peer_succeeds(ours: Iterable[Cell], peers: Iterable[Cell]) -> list[Cell]:
    """Our cells without a result, where a peer of the same kind made a good and smaller one."""
    good = {(cell.model, cell.kind) for cell in peers if cell.is_good}
    return [
        cell for cell in ours if cell.state in (REFUSED, FAILED) and (cell.model, cell.kind) in good
    ]
