"""Numbers for Prometheus: what this process did, with labels of a bounded set of values.

The processes of one service share a folder (`PROMETHEUS_MULTIPROC_DIR`), so that whichever of them
is asked tells of all. `config.metrics_fleet` adds what the stores say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.metrics_folder import FOLDER

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

CALLS = Counter("aviary_calls", "Calls answered.", ["lane", "status"])
CALL_SECONDS = Histogram(
    "aviary_call_seconds", "From the first byte to the answer.", ["lane"], buckets=_SECONDS
)
POLLS = Counter("aviary_polls", "Polls answered.", ["status"])
INTAKE = Counter("aviary_intake_calls", "Batches and summaries answered.", ["path", "status"])
INTAKE_GROUP = Histogram(
    "aviary_intake_group_calls", "Calls that were committed together.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)  # fmt: skip
TASK_SECONDS = Histogram(
    "aviary_task_seconds", "How long tasks ran.", ["task", "state"],
    buckets=(*_SECONDS, 60.0, 120.0, 600.0),
)  # fmt: skip


def collect_processes() -> CollectorRegistry:
    """The numbers of all processes of this service, or of this one where they share nothing."""
    if not os.environ.get(FOLDER):
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def render(*others: Collector) -> Iterator[bytes]:
    """The text that Prometheus reads."""
    yield generate_latest(collect_processes())
    registry = CollectorRegistry()
    for other in others:
        registry.register(other)
    yield generate_latest(registry)
