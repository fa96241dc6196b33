"""The Celery application; tasks are discovered in every app's `tasks` module."""

import ctypes
import os
import signal
import sys
from typing import Any

from celery import Celery
from celery.signals import beat_embedded_init, worker_init, worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("aviary")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_PR_SET_PDEATHSIG = 1
_worker_pid: int | None = None


def remember_worker(**_: Any) -> None:
    """Runs in the worker before it has children, which inherit what is noted here."""
    global _worker_pid
    _worker_pid = os.getpid()


def end_with_worker(**_: Any) -> None:
    """Have the kernel end this child of a worker when the worker is gone (Linux only).

    A worker that is killed cannot end its pool's processes and its embedded clock itself; they
    would go on beside the worker that replaces it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if _worker_pid not in (None, os.getppid()):  # it went before the setting was made
            os.kill(os.getpid(), signal.SIGKILL)


worker_init.connect(remember_worker, weak=False)
worker_process_init.connect(end_with_worker, weak=False)
beat_embedded_init.connect(end_with_worker, weak=False)
