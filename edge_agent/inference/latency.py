"""The last latencies of a session, and what they add up to."""

import threading
from array import array


class LatencyWindow:
    """The last `size` latencies, in nanoseconds; safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self._values = array("q", bytes(8 * size))
        self._size = size
        self._lock = threading.Lock()
        self.count = 0

    def add(self, nanoseconds: int) -> None:
        with self._lock:
            self._values[self.count % self._size] = nanoseconds
            self.count += 1

    def stats(self) -> dict[str, float]:
        """Average and percentiles in ms; empty before the first latency."""
        with self._lock:
            count = self.count
            values = sorted(self._values[: min(count, self._size)])
        if not values:
            return {}
        return {
            "count": count,
            "avg_ms": round(sum(values) / len(values) / 1e6, 4),
            "p50_ms": round(percentile(values, 50) / 1e6, 4),
            "p95_ms": round(percentile(values, 95) / 1e6, 4),
            "p99_ms": round(percentile(values, 99) / 1e6, 4),
        }


def percentile(ordered: list[int], percent: float) -> float:
    """A percentile of ascending values, linear between neighbours (Hyndman & Fan 1996, type 7)."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
