"""Bodies, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import io
import queue
from collections.abc import AsyncIterable

#: What a streamed body must bring on average, after a grace of a minute.
SLOWEST_BYTES_PER_SECOND = 1024
_GRACE_SECONDS = 60.0
#: Pieces that wait between the network and the thread that reads them.
_PIECES_AHEAD = 16


class BodyTooLargeError(Exception):
    """More bytes than may be."""


class BodyTooSlowError(Exception):
    """The rest did not come in time."""


async def read_whole(pieces: AsyncIterable[bytes], *, max_bytes: int, seconds: float) -> bytes:
    """All of a body.

    Raises:
        BodyTooLargeError: more than `max_bytes`. BodyTooSlowError: later than `seconds`.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in pieces:
                body += piece
                if len(body) > max_bytes:
                    raise BodyTooLargeError
    except TimeoutError as error:
        raise BodyTooSlowError(f"The body was not here within {seconds:g} s.") from error
    return bytes(body)


class ArrivingBody(io.RawIOBase):
    """A body that one thread reads while the event loop receives it.

    A body that stops, is too slow or too long ends early; who reads it knows how long it had to
    be. The loop waits for the reader, so that little of it is in memory.
    """

    def __init__(self, pause_seconds: float) -> None:
        """Nothing has arrived.

        Args:
            pause_seconds: how long the next piece may take; the body ends with a longer pause.
        """
        self._pause_seconds = pause_seconds
        self._pieces: queue.Queue[bytes] = queue.Queue()
        self._rest = b""
        self._is_over = False
        self._is_wanted = True
        self._taken: asyncio.Semaphore = asyncio.Semaphore(_PIECES_AHEAD)
        self._loop = asyncio.get_running_loop()

    async def receive(self, pieces: AsyncIterable[bytes], max_bytes: int) -> None:
        """Takes the pieces in until the body has ended, or is no longer read."""
        started, size = self._loop.time(), 0
        try:
            iterator = aiter(pieces)
            while self._is_wanted:
                async with asyncio.timeout(self._pause_seconds):
                    piece = await anext(iterator, b"")
                size += len(piece)
                lasted = self._loop.time() - started
                if not piece or size > max_bytes or _is_too_slow(size, lasted):
                    break
                await self._taken.acquire()
                self._pieces.put(piece)
        except TimeoutError:
            pass
        finally:
            self._pieces.put(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """As of a file: up to `size` bytes, fewer only at the end."""
        parts, missing = [], size if size >= 0 else None
        while missing is None or missing > 0:
            if not self._rest and not self._next_piece():
                break
            part = self._rest if missing is None else self._rest[:missing]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            if missing is not None:
                missing -= len(part)
        return b"".join(parts)

    def stop(self) -> None:
        """Nobody reads on: what still comes is not taken."""
        self._is_wanted = False
        self._loop.call_soon_threadsafe(self._taken.release)

    def _next_piece(self) -> bool:
        if self._is_over:
            return False
        self._rest = self._pieces.get()
        self._is_over = not self._rest
        self._loop.call_soon_threadsafe(self._taken.release)
        return not self._is_over


def _is_too_slow(size: int, seconds: float) -> bool:
    return seconds > _GRACE_SECONDS and size < SLOWEST_BYTES_PER_SECOND * seconds
