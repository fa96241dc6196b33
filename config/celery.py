"""The Celery application; tasks are discovered in every app's `tasks` module."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_embedded_init, worker_init, worker_process_init

from registry.processes import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("aviary")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_worker_pid: int | None = None


def remember_worker(**_: Any) -> None:
    """Runs in the worker before it has children, which inherit what is noted here."""
    global _worker_pid
    _worker_pid = os.getpid()


def end_with_worker(**_: Any) -> None:
    """Runs in each child of a worker: its pool's processes and its embedded clock.

    A worker that is killed cannot end them itself; they would go on beside the worker that
    replaces it.
    """
    end_with_parent(_worker_pid)


worker_init.connect(remember_worker, weak=False)
worker_process_init.connect(end_with_worker, weak=False)
beat_embedded_init.connect(end_with_worker, weak=False)
