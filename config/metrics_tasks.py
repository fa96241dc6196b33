"""How long tasks took, and the address at which a worker or the clock tells it."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.signals import task_postrun, task_prerun
from django.conf import settings
from prometheus_client import start_http_server

from config.metrics import TASK_SECONDS, collect_processes

logger = logging.getLogger(__name__)
_started: dict[str, float] = {}


def _begin(task_id: str = "", **_: Any) -> None:
    _started[task_id] = time.monotonic()


def _end(task_id: str = "", task: Any = None, state: str | None = None, **_: Any) -> None:
    began = _started.pop(task_id, None)
    if began is not None:
        labels = (getattr(task, "name", "unknown"), str(state or "unknown").lower())
        TASK_SECONDS.labels(*labels).observe(time.monotonic() - began)


task_prerun.connect(_begin, weak=False)
task_postrun.connect(_end, weak=False)


def serve() -> None:
    """Listens at `AVIARY_METRICS_ADDRESS` (host:port), for whoever reaches it; not without it."""
    host, _, port = settings.AVIARY_METRICS_ADDRESS.rpartition(":")
    if not port:
        return
    try:
        start_http_server(int(port), addr=host or "127.0.0.1", registry=collect_processes())
    except (OSError, ValueError) as error:
        # Work goes on; that nothing is told, Prometheus tells.
        logger.error("no metrics at %s:%s: %s", host, port, error)
