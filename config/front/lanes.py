"""Threads that answer calls of one kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from config.stores.deadlines import statement_seconds


class LaneFullError(Exception):
    """As many calls wait as may, or this one has waited long enough."""


class Lane:
    """Runs calls in threads of its own; what waits is bounded in number and in time."""

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        waiting: int,
        wait_seconds: float,
        answer_seconds: float | None,
        database_seconds: float | None = None,
    ) -> None:
        """The threads start with the calls.

        Args:
            threads: calls at once.
            waiting: calls that may wait for a thread.
            wait_seconds: how long one may wait.
            answer_seconds: how long a call may take before the caller is told to come back; its
                thread goes on to the end. None for as long as it takes.
            database_seconds: what one statement may take; None for the setting's.
        """
        self.name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"lane-{name}")
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0
        self._most_waiting = waiting
        self._wait_seconds = wait_seconds
        self._answer_seconds = answer_seconds
        self._database_seconds = database_seconds

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns.

        Raises:
            LaneFullError: there was no thread for it in time, or it took too long.
        """
        await self._take_thread()
        call = asyncio.get_running_loop().run_in_executor(self._pool, self._prepared(work))
        # The thread is free when the work has ended, whoever still waits for it.
        call.add_done_callback(lambda _: self._free.release())
        # Not awaited itself: who gives up waiting must not make its thread count as free.
        done, _ = await asyncio.wait({call}, timeout=self._answer_seconds)
        if not done:
            raise LaneFullError(f"It took longer than {self._answer_seconds:g} s.")
        return call.result()

    async def _take_thread(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        if self._waiting >= self._most_waiting:
            raise LaneFullError(f"{self._waiting} calls of this kind are waiting.")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise LaneFullError(f"No thread was free within {self._wait_seconds:g} s.") from error
        finally:
            self._waiting -= 1

    def _prepared(self, work: Callable[[], Any]) -> Callable[[], Any]:
        context = copy_context()
        context.run(statement_seconds.set, self._database_seconds)
        return lambda: context.run(work)
