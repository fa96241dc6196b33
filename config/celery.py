"""The Celery application; tasks are discovered in every app's `tasks` module."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_embedded_init, beat_init, worker_init, worker_process_init
from django.conf import settings

from config.metrics_folder import share_folder
from registry.processes import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if settings.AVIARY_METRICS_ADDRESS:
    share_folder()

app = Celery("aviary")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_worker_pid: int | None = None


def remember_worker(**_: Any) -> None:
    """Runs in the worker before it has children, which inherit what is noted here."""
    global _worker_pid
    _worker_pid = os.getpid()
    serve_metrics()


def serve_metrics(**_: Any) -> None:
    """Has a worker or the clock tell Prometheus its numbers, where an address is set."""
    from config import metrics_tasks

    metrics_tasks.serve()


def end_with_worker(**_: Any) -> None:
    """Runs in each child of a worker: its pool's processes and its embedded clock.

    A worker that is killed cannot end them itself; they would go on beside the worker that
    replaces it.
    """
    end_with_parent(_worker_pid)


worker_init.connect(remember_worker, weak=False)
worker_process_init.connect(end_with_worker, weak=False)
beat_embedded_init.connect(end_with_worker, weak=False)
beat_init.connect(serve_metrics, weak=False)
