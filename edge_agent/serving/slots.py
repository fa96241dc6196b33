"""Where the running session of each model is found."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession


class ModelSlot:
    """Holds the running session of one model; swapping it drops no request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.session: ModelSession | None = None
        self.previous: ModelSession | None = None
        """Of the release before, while the running one is watched; it answers no request."""
        self.refusal = ""
        """Why no session could be opened, where that was the device's fault."""

    def swap(self, session: "ModelSession | None") -> "ModelSession | None":
        """Puts `session` in place and returns the old one.

        A request reads `session` once and keeps what it read, so it is answered by one release
        alone; the old session is freed when its last request is done.
        """
        with self._lock:
            old, self.session, self.previous = self.session, session, None
            self.refusal = ""
        return old
