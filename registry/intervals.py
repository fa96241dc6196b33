"""Intervals of measured shares. Pure."""


def wilson_interval(hits: int, samples: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927), which stays inside [0, 1].

    Args:
        hits: successes, 0 to `samples`.
        samples: trials, at least 1.
    """
    # Loading scipy's statistics takes half a second, which few pages and no short command need.
    from scipy.stats import binomtest

    interval = binomtest(hits, samples).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
