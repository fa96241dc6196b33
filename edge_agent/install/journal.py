"""What the device remembers of its assignments: the state, the signed proofs of it, the reports."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from edge_agent.exceptions import DiskFullError, StateError
from edge_agent.files import FileLayer, write_atomic
from edge_agent.install.trusted_time import Witnesses, choose_signed_time
from edge_agent.releases.rebuild import rebuild_state
from edge_agent.releases.release_store import ReleaseStore
from edge_agent.releases.state import AgentState, Layout, ModelState, StateStore
from edge_agent.releases.trust import ASSIGNMENT_TYPE, Assignment, TrustKey, keep_proof
from edge_agent.version import RELEASED_ON

logger = logging.getLogger(__name__)


class EventSink(Protocol):
    def add_event(
        self,
        assignment_id: str,
        state: str,
        code: str,
        detail: str,
        self_test: dict[str, Any] | None = None,
    ) -> None: ...


class Journal:
    def __init__(
        self,
        files: FileLayer,
        layout: Layout,
        events: EventSink,
        *,
        trust_keys: tuple[TrustKey, ...] = (),
        read_clock: Callable[[], float] = time.time,
    ) -> None:
        """`read_clock` gives Unix seconds, as far as this machine knows."""
        self.files = files
        self.layout = layout
        self.events = events
        self.trust_keys = trust_keys
        self.read_clock = read_clock
        self.store = StateStore(files, layout)
        self.state = AgentState()
        self.server_time: datetime | None = None
        """What the server's clock said last, when TLS vouched for it."""
        self._is_state_known = False
        try:
            state = self.store.load()
        except StateError as error:
            logger.error("%s", error)
        else:
            if state is not None:
                self.state, self._is_state_known = state, True

    def save(self) -> None:
        """Makes the state durable; when that fails, memory goes back to what the disk holds.

        Raises:
            DiskFullError: nothing has changed.
        """
        try:
            self.store.save(self.state)
        except (DiskFullError, OSError):
            self.state = self.store.load() or AgentState()
            raise

    def restore(self, release_store: ReleaseStore) -> None:
        """Rebuilds a state that is missing or damaged from the documents that are still there."""
        if self._is_state_known:
            return
        assignments = release_store.read_assignments()
        manifests = release_store.whole_manifests()
        self.state = rebuild_state(
            assignments=assignments, manifests=manifests, decisions=self.store.load_decisions()
        )
        self._is_state_known = True
        self.store.set_aside()
        if self.state.models:
            logger.error("state rebuilt from %d assignments", len(assignments))
            self.save()

    def accept(self, model: ModelState, assignment: Assignment, answer: dict[str, Any]) -> None:
        """Notes that `assignment` is acted on, with the envelope in `answer` that proves it."""
        # The signed proof of the counter, for the day the state is lost; before the state, so that
        # no counter was acted on without it.
        proof = keep_proof(
            answer["assignment"],
            keys=self.trust_keys,
            payload_type=ASSIGNMENT_TYPE,
            role="assignment",
        )
        write_atomic(self.files, self.layout.assignment(assignment.model), proof)
        model.counter = assignment.counter
        model.manifest_sha256 = assignment.manifest_sha256
        model.action = assignment.action
        latest = choose_signed_time(self.witnesses(), assignment.issued_at)
        self.state.trusted_time = latest.isoformat()
        self.save()

    def forget_lost_signer(
        self, slug: str, *, signers: set[str], keys: tuple[TrustKey, ...]
    ) -> None:
        """A counter and a time count only while the key that signed them is trusted.

        This is the way back from a key that somebody else had: a new one starts anew (TUF 1.0.34,
        5.3.11, on fast-forward attacks).

        Args:
            signers: ids of the keys of the last assignment acted on.
        """
        model = self.state.models.get(slug)
        trusted = {key.keyid for key in keys if "assignment" in key.roles}
        if model is None or not model.counter or not signers or not trusted:
            return
        if not signers & trusted:
            logger.error("model %s: the key behind counter %d is gone", slug, model.counter)
            model.counter, model.manifest_sha256, model.action = 0, "", ""
            self.state.trusted_time = ""

    def witnesses(self) -> Witnesses:
        signed = self.state.trusted_time
        return Witnesses(
            released=datetime.fromisoformat(RELEASED_ON).replace(tzinfo=UTC),
            own=datetime.fromtimestamp(self.read_clock(), UTC),
            signed=datetime.fromisoformat(signed) if signed else None,
            server=self.server_time,
        )

    def report(
        self,
        assignment_id: str,
        state: str,
        code: str = "",
        detail: str = "",
        self_test: dict[str, Any] | None = None,
    ) -> None:
        """A report is a courtesy: failing to note it never undoes what happened."""
        if not assignment_id:
            return  # no assignment brought this release: it was shipped, or found again
        try:
            self.events.add_event(assignment_id, state, code, detail[:500], self_test)
        except Exception:
            logger.exception("event %s of %s could not be noted", state, assignment_id)
