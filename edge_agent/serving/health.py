"""Whether a young release may stay: decided from its live traffic. Pure."""

from dataclasses import dataclass

from edge_agent.config import InstallConfig


@dataclass
class Traffic:
    """What a release has done since it was put in place."""

    inferences: int = 0
    errors: int = 0
    non_finite: int = 0
    p95_ms: float = 0.0


@dataclass(frozen=True)
class Verdict:
    is_over: bool
    """The watch has ended well."""
    code: str = ""
    """Why the release must go, or empty."""
    detail: str = ""


def judge(
    traffic: Traffic, *, watched_s: float, previous_p95_ms: float, config: InstallConfig
) -> Verdict:
    """The verdict after `watched_s` seconds; with too little traffic the watch just ends.

    Args:
        previous_p95_ms: of the release before, 0 when unknown.
    """
    is_over = watched_s >= config.watch_seconds
    if traffic.inferences < config.watch_min_inferences:
        return Verdict(is_over)
    rate = (traffic.errors + traffic.non_finite) / traffic.inferences
    if rate > config.watch_max_error_rate:
        detail = f"{traffic.errors} errors, {traffic.non_finite} non-finite of {traffic.inferences}"
        return Verdict(True, "health_check_failed", detail)
    limit = previous_p95_ms * config.watch_max_latency_ratio
    # Below a millisecond the ratio measures the scheduler, not the model.
    if previous_p95_ms > 0 and traffic.p95_ms > max(limit, 1.0):
        detail = f"p95 {traffic.p95_ms:.2f} ms, was {previous_p95_ms:.2f} ms"
        return Verdict(True, "health_check_failed", detail)
    return Verdict(is_over)
