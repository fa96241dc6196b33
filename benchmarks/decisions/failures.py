"""The failure rule, looked at after every finished device of a rollout of 1,000.

At half the limit a rollout must go on; at five times the limit it must end with few devices harmed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fleet.rules.failure_rate import failures_that_stop

Outcomes = NDArray[np.bool_]
DEVICES = 1_000
LIMITS = (0.01, 0.02, 0.05, 0.10, 0.20)
#: hawkBit's groups of a rollout, as shares of its devices.
GROUPS = (0.05, 0.25, 0.5, 1.0)


def stop_by_evidence(failed: Outcomes, limit: float) -> NDArray[np.intp]:
    """Finished devices when each rollout ends, −1 for one that goes on, by the product's rule."""
    least = np.array(failures_that_stop(limit, failed.shape[1]))
    return _first(failed.cumsum(axis=1) >= least[1:])


def stop_by_share(failed: Outcomes, limit: float, minimum: int = 10) -> NDArray[np.intp]:
    """The plain rule: failed over finished above the limit, after a minimum of finished devices."""
    finished = np.arange(1, failed.shape[1] + 1)
    return _first((failed.cumsum(axis=1) / finished > limit) & (finished >= minimum))


def stop_like_hawkbit(failed: Outcomes, limit: float) -> NDArray[np.intp]:
    """Failed devices above a share of the whole group's size (hawkBit's error threshold)."""
    stop = np.zeros(failed.shape, bool)
    start = 0
    for share in GROUPS:
        end = int(share * failed.shape[1])
        stop[:, start:end] = failed[:, start:end].cumsum(axis=1) > limit * (end - start)
        start = end
    return _first(stop)


def stop_like_argo(failed: Outcomes, limit: float, every: int = 10) -> NDArray[np.intp]:
    """The rate so far above the limit at any measurement (Argo Rollouts, failureLimit 0)."""
    finished = np.arange(1, failed.shape[1] + 1)
    is_measured = finished % every == 0
    return _first((failed.cumsum(axis=1) / finished > limit) & is_measured)


RULES = {
    "ours": stop_by_evidence,
    "plain": stop_by_share,
    "hawkbit": stop_like_hawkbit,
    "argo": stop_like_argo,
}


def figures(seconds: float) -> dict[str, float]:
    """False aborts in percent and devices harmed, the worst over all limits, ours and peers'."""
    runs = int(min(max(100 * seconds, 400), 10_000))
    rng = np.random.default_rng(20261)
    found: dict[str, float] = {}
    for name, rule in RULES.items():
        prefix = "failure_rule" if name == "ours" else f"peer_{name}_failure_rule"
        aborts, at_limit, harmed, missed = [], [], [], []
        for limit in LIMITS:
            draws = rng.random((runs, DEVICES))
            aborts.append(100 * float((rule(draws < limit / 2, limit) >= 0).mean()))
            at_limit.append(100 * float((rule(draws < limit, limit) >= 0).mean()))
            failed = draws < min(5 * limit, 1.0)
            ends = rule(failed, limit)
            missed.append(100 * float((ends < 0).mean()))
            counts = failed.cumsum(axis=1)[np.arange(runs), ends]
            harmed.append(float(np.median(counts)))
        found[f"{prefix}_false_abort_percent_half_limit"] = max(aborts)
        found[f"{prefix}_abort_percent_at_limit"] = max(at_limit)
        found[f"{prefix}_median_harmed_5x"] = max(harmed)
        found[f"{prefix}_missed_percent_5x"] = max(missed)
    return found


def _first(stop: Outcomes) -> NDArray[np.intp]:
    # Ending after the last device is ending nothing; −1 then also picks the last column.
    return np.where(stop.any(axis=1), stop.argmax(axis=1), -1)
