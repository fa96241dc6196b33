"""Names work to the workers once its row is committed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.db import transaction
from kombu.exceptions import OperationalError

from registry.breaker import Breaker

logger = logging.getLogger(__name__)

_breaker = Breaker(
    "The broker",
    trips_on=(OperationalError, OSError),
    refuses_with=OperationalError,
    open_seconds=10,
)


def enqueue_after_commit(send: Callable[..., Any], *arguments: Any) -> None:
    """Calls `send` with `arguments` after the transaction, if it is committed.

    What was done stays done when the broker is away: the failure is logged, and the sweep that
    looks for work whose message was lost sends it again.
    """

    # A function of its own: Django names it in its log, which a `partial` has no name for.
    def send_message() -> None:
        try:
            with _breaker.call():
                send(*arguments)
        except Exception:
            logger.warning("a message was not sent; a sweep will send it", exc_info=True)

    transaction.on_commit(send_message, robust=True)
