"""Whether a young release may stay, by what it does on this device. Pure: no I/O and no clock.

The release before it is asked the same inputs, one right after the other, in an order that a coin
decides: a *pair*. A busy neighbour, heat or a slow card meets both members of a pair alike, so what
counts is only how often the young release alone is slow, or alone fails. Were the two equally good,
it would be the worse one in at most half of the pairs that differ, whatever else happens on the
device and however that changes. So each count is a sign test against one half.

It is looked at after every pair. The evidence is therefore an e-value, which may be looked at any
number of times: the likelihood ratio of the binomial with the share `p` spread evenly over
[p0, 1] against p0 (Ville 1939; Robbins 1970, Ann. Math. Statist. 41; for the binomial Howard,
Ramdas, McAuliffe and Sekhon 2021, Ann. Statist. 49, section 4). The chance that a good release is
ever undone is at most ALPHA, shared by the two tests. `tests/edge_agent/install/test_live_watch.py`
simulates both sides.
"""

import math
from dataclasses import dataclass

from edge_agent.config import InstallConfig

ALPHA = 0.001
"""Chance that a good release is undone, over its whole watch."""
TESTS = 2
"""Latency and failures."""
TOO_SHORT_TO_TELL_MS = 1.0
"""An answer below this is never slow: a ratio would measure the scheduler and not the model."""


@dataclass
class WatchCounts:
    """What is known of a young release."""

    inferences: int = 0
    """Of live traffic."""
    failures: int = 0
    """Of these: the runtime failed, or an output was not finite."""
    pairs: int = 0
    """Inputs that it and the release before it were both asked."""
    timed_pairs: int = 0
    """Pairs that both answered."""
    slower: int = 0
    """Of these: it took longer than the permitted multiple of the other's time."""
    failed_alone: int = 0
    """Pairs in which it failed and the release before did not."""
    previous_failed_alone: int = 0

    def add_pair(self, young_ms: float | None, previous_ms: float | None, *, ratio: float) -> None:
        """Counts a pair; None is a failure."""
        self.pairs += 1
        if young_ms is not None and previous_ms is not None:
            self.timed_pairs += 1
            self.slower += young_ms > max(ratio * previous_ms, TOO_SHORT_TO_TELL_MS)
        elif young_ms is None and previous_ms is not None:
            self.failed_alone += 1
        elif young_ms is not None:
            self.previous_failed_alone += 1


@dataclass(frozen=True)
class WatchResult:
    is_over: bool
    """Nothing more is watched."""
    code: str = ""
    """Why the release must go, or empty."""
    detail: str = ""


def judge(
    evidence: WatchCounts, *, watched_s: float, has_previous: bool, config: InstallConfig
) -> WatchResult:
    """The verdict after `watched_s` seconds.

    The watch goes on past `watch_seconds` until there are `watch_min_inferences` pairs, but no
    longer than `watch_max_seconds`.

    Args:
        has_previous: the release before can be asked. Without it only failures are judged, and
            against `watch_max_error_rate` alone, which is weaker: a broken camera looks like a
            broken release.
    """
    least = config.watch_min_inferences
    if has_previous:
        is_enough = evidence.pairs >= least
        differing = evidence.failed_alone + evidence.previous_failed_alone
        if is_enough and proves_above(evidence.failed_alone, differing, 0.5):
            detail = (
                f"fails alone on {evidence.failed_alone} of {evidence.pairs} inputs, the release "
                f"before on {evidence.previous_failed_alone}"
            )
            return WatchResult(True, "health_check_failed", detail)
        is_timed = evidence.timed_pairs >= least
        if is_timed and proves_above(evidence.slower, evidence.timed_pairs, 0.5):
            detail = (
                f"takes over {config.watch_max_latency_ratio:g} times as long as the release "
                f"before on {evidence.slower} of {evidence.timed_pairs} inputs"
            )
            return WatchResult(True, "health_check_failed", detail)
    else:
        is_enough = evidence.inferences >= least
        limit = config.watch_max_error_rate
        if is_enough and proves_above(evidence.failures, evidence.inferences, limit):
            detail = f"fails on {evidence.failures} of {evidence.inferences} inputs"
            return WatchResult(True, "health_check_failed", detail)
    is_late = watched_s >= config.watch_seconds
    return WatchResult(is_late and (is_enough or watched_s >= config.watch_max_seconds))


def proves_above(hits: int, trials: int, share: float) -> bool:
    """Whether `hits` of `trials` show that the true share is above `share`, at any time."""
    return trials > 0 and log_e_value(hits, trials, share) >= math.log(TESTS / ALPHA)


def log_e_value(hits: int, trials: int, share: float) -> float:
    """Natural logarithm of the evidence that the chance of a hit is above `share`.

    With S hits in n trials and p0 the share, it is

        B(S+1, n-S+1) · P(Bin(n+1, p0) <= S) / (p0^S (1-p0)^(n-S) (1-p0)),

    the mean of the likelihood ratio over p uniform in [p0, 1]. Its expectation is at most 1 after
    any number of trials while the chance of a hit, given all that went before, is at most p0.

    Args:
        share: p0, above 0 and below 1.
    """
    misses = trials - hits
    log_beta = math.lgamma(hits + 1) + math.lgamma(misses + 1) - math.lgamma(trials + 2)
    log_null = hits * math.log(share) + (misses + 1) * math.log1p(-share)
    return log_beta + _log_binomial_cdf(hits, trials + 1, share) - log_null


def _log_binomial_cdf(most: int, trials: int, share: float) -> float:
    """Logarithm of P(Bin(trials, share) <= most), summed from its largest term."""
    log_odds = math.log(share) - math.log1p(-share)
    terms, term = [], trials * math.log1p(-share)
    for number in range(most + 1):
        terms.append(term)
        term += math.log((trials - number) / (number + 1)) + log_odds if number < trials else 0.0
    largest = max(terms)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in terms))
