"""Waiting for what the server does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from aviary_client.errors import Exit, OutcomeError, TransferError, WaitTimeoutError
from aviary_client.rows import Rollout

T = TypeVar("T")
FINAL_JOBS = frozenset({"passed", "failed_gate", "collapsed", "failed", "cancelled", "timed_out"})
FINAL_ROLLOUTS = frozenset({"completed", "aborted", "rolled_back", "superseded"})
#: A server that is being restarted is asked again for so long.
AWAY_SECONDS = 300.0


def wait_for(
    ask: Callable[[], T],
    is_over: Callable[[T], bool],
    *,
    what: str,
    timeout_seconds: float,
    interval_seconds: float,
    on_change: Callable[[T], None] = lambda found: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What `ask` answers once `is_over` says so.

    Args:
        on_change: called with each answer.

    Raises:
        WaitTimeoutError: it was not over in time.
        TransferError: the server was away for five minutes.
    """
    ends_at = clock() + timeout_seconds
    away_since: float | None = None
    while True:
        try:
            found = ask()
        except TransferError:
            away_since = clock() if away_since is None else away_since
            if clock() - away_since > AWAY_SECONDS:
                raise
        else:
            away_since = None
            on_change(found)
            if is_over(found):
                return found
        left = ends_at - clock()
        if left <= 0:
            raise WaitTimeoutError(f"{what}: not over within {timeout_seconds:g} s")
        sleep(min(interval_seconds, left))


def is_rollout_over(rollout: Rollout, *, is_pause_end: bool) -> bool:
    """Whether nothing more happens by itself."""
    return rollout["state"] in FINAL_ROLLOUTS or (is_pause_end and rollout["state"] == "paused")


def check_rollout(rollout: Rollout) -> None:
    """Nothing when the rollout completed. Raises OutcomeError, with an exit status for each end."""
    state, reason = rollout["state"], rollout["reason"]
    words = f"Rollout {rollout['id']} is {state.replace('_', ' ')}" + (
        f": {reason}" if reason else ""
    )
    ends = {
        "aborted": Exit.ROLLED_BACK,
        "rolled_back": Exit.ROLLED_BACK,
        "paused": Exit.HELD,
        "superseded": Exit.SUPERSEDED,
    }
    if state != "completed":
        raise OutcomeError(
            words, {"rollout": rollout["id"], "state": state}, ends.get(state, Exit.FAILED)
        )


def check_state(row: Any, good: Collection[str], words: str) -> None:
    """Nothing when the row's state is a good one. Raises OutcomeError."""
    if row["state"] not in good:
        raise OutcomeError(words, {"state": row["state"]})
