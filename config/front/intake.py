"""Batches of records and summaries are answered in groups, without Django's views.

What waits while one group is being committed makes the next one, so that a group is as large as
the load wants it and a lone batch waits for nobody. `ingest.device_api` is the same in a view; one
set of tests runs over both.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings
from django.db import close_old_connections
from django.http.request import validate_host

from config.api import STORE_FAILURES, describe_error, error_body
from config.front.lanes import LaneFullError
from config.metrics import INTAKE, INTAKE_GROUP
from config.stores.deadlines import statement_seconds
from fleet.authentication import (
    NEEDS_TOKEN,
    UNKNOWN_TOKEN,
    bearer_token,
    find_devices,
    require_accepted,
)
from fleet.exceptions import NotAuthenticatedError
from ingest.device_api import check_content_type
from ingest.services.intake import Delivery, receive_batches
from ingest.services.summaries import receive_summaries
from registry.exceptions import AviaryError
from registry.quotas import take_quotas

logger = logging.getLogger(__name__)

#: Of one group: enough to make a commit cheap, few enough that one takes a fraction of a second.
MOST_CALLS = 500
MOST_BYTES = 16 * 1024 * 1024
#: Calls that wait at once; a fleet that sends more than is taken is told to come back.
MOST_WAITING = 2_000
#: One group is decoded while another waits for the disk.
THREADS = 2
ANSWER_SECONDS = 30.0
DATABASE_SECONDS = 10.0


@dataclass(frozen=True)
class Call:
    """What of a request matters here."""

    path: str
    authorization: str
    content_type: str
    encoding: str
    body: bytes


Told = tuple[int, list[tuple[str, str]], bytes]


def is_plain(environ: Mapping[str, Any]) -> bool:
    """True when nothing but the batch itself is to be looked at; Django sees to the rest."""
    if environ["QUERY_STRING"] or not _is_own_host(environ.get("HTTP_HOST", "")):
        return False
    return not settings.AVIARY_HTTPS or environ.get("HTTP_X_FORWARDED_PROTO") == "https"


@lru_cache(maxsize=256)
def _is_own_host(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return validate_host(name, settings.ALLOWED_HOSTS)


class Intake:
    """The groups of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="intake")
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Call, asyncio.Future[Told]]] = deque()
        self._working = 0

    async def answer(self, call: Call) -> Told:
        """Status, headers and body.

        Raises:
            LaneFullError: too many wait, or it took too long; what was stored all the same is known
                when the device sends it again.
        """
        future: asyncio.Future[Told] = self._loop.create_future()
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise LaneFullError(f"{len(self._waiting)} batches are waiting.")
            self._waiting.append((call, future))
            is_needed = self._working < THREADS
            self._working += is_needed
        if is_needed:
            self._pool.submit(self._work)
        done, _ = await asyncio.wait({future}, timeout=ANSWER_SECONDS)
        if not done:
            raise LaneFullError(f"It took longer than {ANSWER_SECONDS:g} s.")
        return future.result()

    def _work(self) -> None:
        statement_seconds.set(DATABASE_SECONDS)
        while group := self._take():
            close_old_connections()
            try:
                told = answer_calls([call for call, _ in group])
            except Exception:
                # Nobody else would hear of it, and those who wait must be told.
                logger.exception("%d batches were not answered", len(group))
                body = msgspec.json.encode(error_body("internal_error", "The server failed."))
                told = [(500, _JSON, body)] * len(group)
            close_old_connections()
            INTAKE_GROUP.observe(len(group))
            for (call, _), answer in zip(group, told, strict=True):
                INTAKE.labels(call.path, answer[0]).inc()
            answers = [(future, answer) for (_, future), answer in zip(group, told, strict=True)]
            self._loop.call_soon_threadsafe(_settle, answers)

    def _take(self) -> list[tuple[Call, asyncio.Future[Told]]]:
        """The next group; empty when this thread is no longer needed."""
        group: list[tuple[Call, asyncio.Future[Told]]] = []
        size = 0
        with self._lock:
            while self._waiting and len(group) < MOST_CALLS and size < MOST_BYTES:
                group.append(self._waiting.popleft())
                size += len(group[-1][0].body)
            self._working -= not group
        return group


def _settle(answers: Sequence[tuple[asyncio.Future[Told], Told]]) -> None:
    for future, answer in answers:
        if not future.done():  # the caller may be gone
            future.set_result(answer)


def answer_calls(calls: Sequence[Call]) -> list[Told]:
    """The answer to each of `calls`, which are stored together."""
    try:
        outcomes = _receive(calls, datetime.now(UTC))
    except STORE_FAILURES as error:
        outcomes = [error] * len(calls)
    return [_tell(outcome) for outcome in outcomes]


def _receive(calls: Sequence[Call], received_at: datetime) -> list[dict[str, Any] | Exception]:
    tokens = [bearer_token(call.authorization) for call in calls]
    devices = find_devices({token for token in tokens if token})
    outcomes: list[dict[str, Any] | Exception | None] = [None] * len(calls)
    for index, (call, token) in enumerate(zip(calls, tokens, strict=True)):
        try:
            if token is None:
                raise NotAuthenticatedError(NEEDS_TOKEN)
            if token not in devices:
                raise NotAuthenticatedError(UNKNOWN_TOKEN)
            require_accepted(devices[token])
            check_content_type(call.content_type)
        except AviaryError as error:
            outcomes[index] = error
    known = [index for index, outcome in enumerate(outcomes) if outcome is None]
    owners = {index: devices[str(tokens[index])] for index in known}
    refused = take_quotas("ingest", [owners[index].pk for index in known])
    for index, refusal in zip(known, refused, strict=True):
        outcomes[index] = refusal
    taken = [index for index in known if outcomes[index] is None]
    for path, receive in _RECEIVERS.items():
        own = [index for index in taken if calls[index].path == path]
        deliveries = [
            Delivery(owners[index], calls[index].body, calls[index].encoding) for index in own
        ]
        for index, outcome in zip(own, receive(deliveries, received_at), strict=True):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


_RECEIVERS = {"/api/ingest": receive_batches, "/api/summaries": receive_summaries}
_JSON = [("Content-Type", "application/json")]


def _tell(outcome: dict[str, Any] | Exception) -> Told:
    if not isinstance(outcome, Exception):
        return 200, _JSON, msgspec.json.encode(outcome)
    told = describe_error(outcome)
    if told is None:
        logger.error("A batch could not be stored", exc_info=outcome)
        body = error_body("internal_error", "The server failed; the failure has been logged.")
        return 500, _JSON, msgspec.json.encode(body)
    if told.status >= 500:
        logger.error("A store does not answer: %s", outcome)
    return told.status, [*_JSON, *told.headers.items()], msgspec.json.encode(told.body)
