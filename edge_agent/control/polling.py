"""Asks for assignments, and remembers what the server said about when to ask again."""

from datetime import datetime
from typing import Any

from edge_agent.config import Config
from edge_agent.control.answers import (
    describe,
    read_assignments,
    read_date,
    read_etag,
    read_poll_after_s,
)
from edge_agent.control.client import DeviceClient
from edge_agent.exceptions import NotTheServerError
from edge_agent.releases.state import AgentState

FIRST_POLL_AFTER_S = 5.0


class Poller:
    def __init__(self, config: Config, client: DeviceClient) -> None:
        self.client = client
        self.models = config.models
        self.max_poll_s = config.install.max_poll_s
        self.is_clock_vouched_for = config.server_url.startswith("https://")
        """The server's clock counts as trusted only over TLS, where nobody else can state it."""
        self.poll_after_s = FIRST_POLL_AFTER_S
        self.server_time: datetime | None = None
        """What the server's clock said last."""
        self._etags: dict[str, str] = {}

    def ask_anew(self, slug: str) -> None:
        """The next answer for `slug` is a whole one, even when nothing in it is new."""
        self._etags.pop(slug, None)

    def poll(self, state: AgentState) -> list[tuple[str, dict[str, Any]]]:
        """The answers that have something to act on, each with its model's slug.

        Raises:
            TransferError: the server could not be asked.
        """
        if not self.models:
            current = {slug: model.current for slug, model in state.models.items()}
            answer = self.client.get_desired(
                {slug: release.manifest_sha256 for slug, release in current.items() if release}
            )
            rows = read_assignments(answer.body)
            self._note_poll(answer.body.get("poll_after_s"))
            self._note_time(answer.headers.get("Date", ""))
            return rows
        found = []
        for slug in self.models:
            model = state.models.get(slug)
            running = model.current.manifest_sha256 if model and model.current else ""
            # "Nothing new" is only an answer for a device that has done what the last one said.
            is_settled = model is not None and (
                running == model.manifest_sha256 or model.manifest_sha256 in model.blocked
            )
            etag = self._etags.get(slug, "") if is_settled else ""
            answer = self.client.get_latest(slug, etag=etag, running_digest=running)
            if answer.status in (204, 304):
                self._note_poll(answer.headers.get("X-Poll-After"))
            elif isinstance(answer.body, dict):
                self._etags[slug] = read_etag(answer.headers.get("ETag"))
                self._note_poll(answer.body.get("poll_after_s"))
                found.append((slug, answer.body))
            else:
                raise NotTheServerError(f"expected an assignment, got {describe(answer.body)}")
            self._note_time(answer.headers.get("Date", ""))
        return found

    def _note_poll(self, value: Any) -> None:
        self.poll_after_s = read_poll_after_s(
            value, default=self.poll_after_s, most=self.max_poll_s
        )

    def _note_time(self, date: str) -> None:
        now = read_date(date) if self.is_clock_vouched_for else None
        if now is not None:
            # Only the last one, and only in memory: a server whose clock was years ahead for a
            # while must not make every later assignment look expired.
            self.server_time = now
