"""SHA-256 worked out beside the reading and writing of a file."""

import hashlib
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future


class BackgroundHash:
    """The digest of pieces given in order, hashed in a thread of its own.

    `hashlib` lets go of the interpreter's lock for long pieces, so with a second core hashing takes
    no time of its own: it was the longest part of a download. One piece waits at the most, so the
    memory is bounded.
    """

    def __init__(self) -> None:
        # Only a download needs it; a device that waits for its first model should stay small.
        from concurrent.futures import ThreadPoolExecutor

        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sha256")
        self._pending: Future[None] | None = None

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
        """Adds a piece; returns once the piece before it is hashed."""
        self._wait()
        self._pending = self._thread.submit(self._hash.update, piece)

    def hexdigest(self) -> str:
        """The digest of everything so far, 64 hexadecimal digits."""
        self._wait()
        return self._hash.hexdigest()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
