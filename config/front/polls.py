"""Polls as they come from the network: remembered ones at once, the others many at a time."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from django.db import close_old_connections

from config.front.lanes import Lane, LaneFullError
from fleet.polling.decisions import Poll, PollAnswer
from fleet.polling.heard import note_heard
from fleet.polling.lane import PATH, PollLane

logger = logging.getLogger(__name__)

#: Polls that one call of the lane decides on; the next ones gather while it runs.
MOST_AT_ONCE = 256
MOST_WAITING = 4096
__all__ = ["PATH", "Polls"]


class Polls:
    """The polls of one web process."""

    def __init__(self) -> None:
        self._lane = PollLane()
        self._threads = Lane(
            "decisions", threads=1, waiting=1, wait_seconds=5, answer_seconds=10, database_seconds=3
        )
        self._waiting: list[tuple[Poll, asyncio.Future[PollAnswer | None]]] = []
        self._drain: asyncio.Task[None] | None = None

    def start(self) -> None:
        """For a process that is about to serve."""
        self._lane.start()

    def stop(self) -> None:
        """For a process that has served."""
        self._lane.stop()

    def recall(self, scope: Any) -> str | None:
        """The ETag to answer 304 with, when this poll repeats one that is remembered."""
        headers = scope.headers
        etag = headers.get("if-none-match")
        if etag is None:
            return None
        is_known = self._lane.recall(
            headers.get("authorization") or "",
            scope.query_string,
            etag,
            headers.get("x-running-digest") or "",
            headers.get("x-agent-version") or "",
        )
        if not is_known:
            return None
        note_heard()
        return str(etag)

    async def decide(self, scope: Any) -> PollAnswer | None:
        """The answer; None when Django's view is to give it.

        Raises:
            LaneFullError: too many polls wait, or the database takes too long.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise LaneFullError(f"{MOST_WAITING} polls are waiting.")
        headers = scope.headers
        poll = Poll(
            authorization=headers.get("authorization") or "",
            query=scope.query_string,
            if_none_match=headers.get("if-none-match") or "",
            running=headers.get("x-running-digest") or "",
            agent_version=headers.get("x-agent-version") or "",
            is_secure=headers.get("x-forwarded-proto") == "https",
        )
        answer: asyncio.Future[PollAnswer | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((poll, answer))
        if self._drain is None:
            self._drain = asyncio.create_task(self._decide_waiting())
        return await answer

    async def _decide_waiting(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = (
                    self._waiting[:MOST_AT_ONCE],
                    self._waiting[MOST_AT_ONCE:],
                )
                await self._decide([poll for poll, _ in taken], [answer for _, answer in taken])
        finally:
            self._drain = None

    def _decide_now(self, polls: list[Poll]) -> list[PollAnswer | None]:
        # What Django does at the start of each of its own calls.
        close_old_connections()
        return self._lane.decide(polls)

    async def _decide(
        self, polls: list[Poll], waiting: list[asyncio.Future[PollAnswer | None]]
    ) -> None:
        found: list[PollAnswer | None] = [None] * len(polls)
        failure: LaneFullError | None = None
        try:
            found = await self._threads.run(partial(self._decide_now, polls))
        except LaneFullError as error:
            failure = error
        except Exception:
            # The view answers each by itself, and says what is wrong with those that it cannot.
            logger.warning("%d polls could not be decided on together", len(polls), exc_info=True)
        for answer, future in zip(found, waiting, strict=True):
            if future.done():  # its caller has gone
                continue
            if failure is not None:
                future.set_exception(LaneFullError(str(failure)))
            else:
                future.set_result(answer)
