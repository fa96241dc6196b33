"""What a job's progress looks like to a reader: one shape for API and pages. Pure but for the row.

`Job.progress` holds what the worker last said; how far that is depends on when it is read.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from compression.models import Job
from compression.states import JobState
from compression.worker.estimates import Estimate, estimate_progress, expect_seconds

EVALUATE = "evaluate"


class Progress(TypedDict):
    """How far a job is; `index` counts the passes from 0 and ends with measuring."""

    fraction: float
    eta_seconds: float | None
    index: int | None
    steps: int
    name: str
    done: int | None
    total: int | None
    step_eta_seconds: float | None
    queue_position: int | None


class StepClock:
    """Kept by the worker: what each step was expected to take and has taken."""

    def __init__(
        self,
        steps: Sequence[str],
        history: Sequence[dict[str, float]],
        budgets: Mapping[str, float] | None = None,
    ) -> None:
        """`budgets`: seconds after which a step ends on its own, by name."""
        self.steps = [*steps, EVALUATE]
        expected = expect_seconds(self.steps, history)
        self.budgets = dict(budgets or {})
        self.expected = [
            min(expected[name], self.budgets.get(name, expected[name])) for name in self.steps
        ]
        self.spent: list[float] = []
        self.started_at: datetime | None = None
        self.share: float | None = None

    def note(self, event: dict[str, Any], now: datetime) -> dict[str, Any]:
        """`Job.progress` after an event of the child, given the time at which it arrived."""
        if event["event"] == "step":
            self._note_step(event["index"], event["state"], now)
        elif event.get("total"):
            # A pass of several rounds starts counting anew; the whole never goes back.
            self.share = max(self.share or 0.0, event["done"] / event["total"])
        return {
            **{key: event.get(key) for key in ("index", "name", "done", "total")},
            "share": self.share,
            "bound_seconds": self.budgets.get(event.get("name", "")),
            "step_eta_seconds": event.get("eta_seconds"),
            "expected_seconds": self.expected,
            "spent_seconds": [round(seconds, 2) for seconds in self.spent],
            "step_started_at": (self.started_at or now).isoformat(),
        }

    def _note_step(self, index: int, state: str, now: datetime) -> None:
        if state == "cached":
            self.expected[index] = 0.0
            self.spent.append(0.0)
        elif state == "done" and self.started_at is not None:
            self.spent.append((now - self.started_at).total_seconds())
        self.started_at = now
        self.share = None


def describe_progress(job: Job, *, now: datetime, queue_position: int | None = None) -> Progress:
    """How far the job is at `now`.

    Args:
        queue_position: how many queued jobs come first, for a queued one.
    """
    stored = job.progress or {}
    steps = len(stored.get("expected_seconds") or job.recipe["passes"])
    estimate = _estimate(job, stored, now)
    is_running = job.state == JobState.RUNNING
    return {
        "fraction": estimate.fraction,
        "eta_seconds": estimate.eta_seconds,
        "index": stored.get("index") if is_running else None,
        "steps": steps,
        "name": stored.get("name") or "" if is_running else "",
        "done": stored.get("done") if is_running else None,
        "total": stored.get("total") if is_running else None,
        "step_eta_seconds": stored.get("step_eta_seconds") if is_running else None,
        "queue_position": queue_position if job.state == JobState.QUEUED else None,
    }


def _estimate(job: Job, stored: dict[str, Any], now: datetime) -> Estimate:
    if not job.is_active:
        return Estimate(1.0, 0.0)
    if job.state == JobState.QUEUED or not stored.get("expected_seconds"):
        return Estimate(0.0, None)
    started_at = datetime.fromisoformat(stored["step_started_at"])
    return estimate_progress(
        expected=stored["expected_seconds"],
        spent=stored["spent_seconds"],
        step_seconds=max((now - started_at).total_seconds(), 0.0),
        share=stored.get("share"),
        bound_seconds=stored.get("bound_seconds"),
    )
