"""SHA-256 worked out beside the reading and writing of a file."""

import hashlib
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

WAITING_PIECES = 4


class BackgroundHash:
    """The digest of pieces given in order, hashed in a thread of its own.

    `hashlib` lets go of the interpreter's lock for long pieces, so with a second core hashing takes
    no time of its own: it was the longest part of a download. At most `WAITING_PIECES` wait, so the
    memory is bounded, and a short hold-up on either side does not stop the other.
    """

    def __init__(self) -> None:
        # Only a download needs it; a device that waits for its first model should stay small.
        from concurrent.futures import ThreadPoolExecutor

        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sha256")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "BackgroundHash":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown()

    def update(self, piece: bytes) -> None:
        """Adds a piece; waits while too many before it are not hashed yet."""
        self._wait(leave=WAITING_PIECES - 1)
        self._pending.append(self._thread.submit(self._hash.update, piece))

    def hexdigest(self) -> str:
        """The digest of everything so far, 64 hexadecimal digits."""
        self._wait(leave=0)
        return self._hash.hexdigest()

    def _wait(self, *, leave: int) -> None:
        while len(self._pending) > leave:
            self._pending.popleft().result()
