"""The watch on a young release: a good one stays whatever else happens, a bad one goes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from edge_agent.config import InstallConfig
from edge_agent.install.live_watch import ALPHA, WatchCounts, judge, log_e_value

CONFIG = InstallConfig()
RATIO = CONFIG.watch_max_latency_ratio
WATCHES = 2000


def pair_latencies(
    rng: np.random.Generator, pairs: int, *, young: float, sigma: float, is_busy: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Latencies of both releases. A busy neighbour comes and goes and slows both alike, up to
    twentyfold; it may come between the two of a pair, whose order is by chance."""
    load = np.ones(2 * pairs)
    if is_busy:
        comes = rng.random(2 * pairs) < 0.05
        load = np.where(np.cumsum(comes) % 2 == 1, rng.uniform(2, 20), 1.0)
    noise = np.exp(sigma * rng.standard_normal((pairs, 2)))
    first = rng.integers(0, 2, pairs)
    at = np.arange(pairs) * 2
    return (
        20.0 * young * noise[:, 0] * load[at + first],
        20.0 * noise[:, 1] * load[at + 1 - first],
    )


def pairs_until_undone(
    young: np.ndarray, previous: np.ndarray, *, fails: np.ndarray | None = None
) -> int:
    """Pairs after which the release is undone, looking after each; 0 for never."""
    evidence = WatchCounts()
    for number, (mine, its) in enumerate(zip(young, previous, strict=True)):
        has_failed = fails is not None and fails[number]
        evidence.add_pair(None if has_failed else float(mine), float(its), ratio=RATIO)
        if judge(evidence, watched_s=0.0, has_previous=True, config=CONFIG).code:
            return evidence.pairs
    return 0


@pytest.mark.parametrize("sigma", [0.1, 1.0])
@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("young", [1.0, RATIO])
def test_a_good_release_is_undone_at_most_once_in_a_thousand_watches(
    young: float, is_busy: bool, sigma: float
) -> None:
    """As slow as is just permitted, with any noise, and a look after every one of 200 pairs."""
    rng = np.random.default_rng(1)
    undone = 0
    for _ in range(WATCHES // 4):
        latencies = pair_latencies(rng, 200, young=young, sigma=sigma, is_busy=is_busy)
        undone += pairs_until_undone(*latencies) > 0
    assert undone <= stats.binom.ppf(0.9999, WATCHES // 4, ALPHA)


@pytest.mark.parametrize(("sigma", "within"), [(0.1, 30), (0.3, 80), (0.5, 300)])
@pytest.mark.parametrize("is_busy", [False, True])
def test_three_times_slower_is_found(sigma: float, within: int, is_busy: bool) -> None:
    rng = np.random.default_rng(2)
    found = [
        pairs_until_undone(*pair_latencies(rng, 400, young=3.0, sigma=sigma, is_busy=is_busy))
        for _ in range(200)
    ]
    assert min(found) >= CONFIG.watch_min_inferences
    assert np.quantile(found, 0.95) <= within


@pytest.mark.parametrize(("share", "within"), [(1.0, 30), (0.5, 40), (0.2, 110)])
def test_failures_of_its_own_are_found(share: float, within: int) -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        fails = rng.random(300) < share
        found.append(pairs_until_undone(np.full(300, 5.0), np.full(300, 5.0), fails=fails))
    assert 0 < np.quantile(found, 0.95) <= within


def test_inputs_that_both_fail_on_are_not_its_fault() -> None:
    evidence = WatchCounts(inferences=10_000, failures=10_000)
    for _ in range(10_000):
        evidence.add_pair(None, None, ratio=RATIO)
    assert judge(evidence, watched_s=61.0, has_previous=True, config=CONFIG).code == ""


@pytest.mark.parametrize("slow", [range(1), range(10), range(3, 9)])
def test_a_slow_start_or_a_hiccup_undoes_nothing(slow: range) -> None:
    young = np.array([9000.0 if number in slow else 10.0 for number in range(100)])
    assert pairs_until_undone(young, np.full(100, 10.0)) == 0


def test_below_a_millisecond_nothing_is_slow() -> None:
    assert pairs_until_undone(np.full(500, 0.9), np.full(500, 0.01)) == 0
    assert pairs_until_undone(np.full(500, 1.1), np.full(500, 0.01)) == 30


@pytest.mark.parametrize(
    ("evidence", "watched_s", "has_previous", "is_over"),
    [
        (WatchCounts(), 59.0, True, False),
        (WatchCounts(pairs=29, timed_pairs=29), 61.0, True, False),
        (WatchCounts(pairs=30, timed_pairs=30), 61.0, True, True),
        (WatchCounts(pairs=30, timed_pairs=30), 59.0, True, False),
        (WatchCounts(inferences=29), 61.0, False, False),
        (WatchCounts(inferences=30), 61.0, False, True),
        (WatchCounts(), 86_401.0, True, True),
    ],
)
def test_the_watch_lasts_until_there_is_enough_to_judge_by(
    evidence: WatchCounts, watched_s: float, has_previous: bool, is_over: bool
) -> None:
    verdict = judge(evidence, watched_s=watched_s, has_previous=has_previous, config=CONFIG)
    assert (verdict.is_over, verdict.code) == (is_over, "")


@pytest.mark.parametrize(("failures", "is_bad"), [(6, False), (12, False), (25, True), (30, True)])
def test_without_a_release_before_failures_are_judged_against_a_limit(
    failures: int, is_bad: bool
) -> None:
    evidence = WatchCounts(inferences=30, failures=failures)
    verdict = judge(evidence, watched_s=1.0, has_previous=False, config=CONFIG)
    assert bool(verdict.code) is is_bad


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from((0.2, 0.5, 0.9)))
def test_the_e_value_is_the_mean_likelihood_ratio(hits: int, misses: int, share: float) -> None:
    def ratio(p: float) -> float:
        return float((p / share) ** hits * ((1 - p) / (1 - share)) ** misses)

    mean = integrate.quad(ratio, share, 1.0, epsabs=0.0, epsrel=1e-10)[0] / (1 - share)
    assert math.exp(log_e_value(hits, hits + misses, share)) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("trials", [1, 5, 40])
def test_its_expectation_is_one_at_the_limit_and_less_below(trials: int, share: float) -> None:
    values = [math.exp(log_e_value(hits, trials, share)) for hits in range(trials + 1)]
    for true, most in ((share, 1.0 + 1e-9), (share / 2, 1.0)):
        chances = stats.binom.pmf(range(trials + 1), trials, true)
        assert float(chances @ values) <= most
    assert float(stats.binom.pmf(range(trials + 1), trials, share) @ values) == pytest.approx(1)
