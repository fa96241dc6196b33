"""The polls of one web process: what it remembers, and the threads that keep that true."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from django.conf import settings
from django.utils import timezone

from fleet.polling import heard, poll_notes
from fleet.polling.changes import Listener
from fleet.polling.decisions import Poll, PollAnswer, decide_polls
from fleet.polling.memory import PollMemory, poll_key
from fleet.polling.poll_notes import note_poll, send_notes

logger = logging.getLogger(__name__)

PATH = "/api/models/latest"
SEND_SECONDS = 1.0


class PollLane:
    """Answers polls without Django's views."""

    def __init__(self) -> None:
        self.memory = PollMemory(settings.AVIARY_POLL_MEMORY)
        self._listener = Listener(self.memory)
        self._sender = threading.Thread(target=self._send, name="poll-notes", daemon=True)
        self._is_ending = threading.Event()

    def start(self) -> None:
        """Begins to hear changes and to send notes; for a process that serves."""
        poll_notes.is_sent_regularly = poll_notes.has_shared_cache()
        self._listener.start()
        self._sender.start()

    def stop(self) -> None:
        """Sends what is left."""
        self._listener.end()
        self._is_ending.set()
        send_notes()

    def recall(
        self, authorization: str, query: str, etag: str, running: str, agent_version: str
    ) -> bool:
        """True when the poll repeats one to which nothing was new, and nothing is since."""
        found = self.memory.find(poll_key(authorization, query, etag, running, agent_version))
        if found is None:
            return False
        note_poll(found.device, found.model, found.running, found.agent_version)
        return True

    def decide(self, polls: Sequence[Poll]) -> list[PollAnswer | None]:
        """The answers of polls that are not remembered; None for those that the view answers."""
        return decide_polls(polls, self.memory, timezone.now())

    def _send(self) -> None:
        while not self._is_ending.wait(SEND_SECONDS):
            try:
                send_notes()
                heard.send_mark()
            except Exception:
                # The thread must outlive whatever one round of it meets.
                logger.exception("Notes of polls could not be sent")
