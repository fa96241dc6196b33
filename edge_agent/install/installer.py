"""Brings a verified release to the point where it runs, and takes it back when it does not.

The order of writes is what survives a power cut:

    blobs, manifest, assignment -> trial -> tries + 1 -> self-test -> current and previous in one

Whatever is lost, `current` names a release whose files are whole, and a release that kills the
device during its self-test is blocked after `max_tries`. When the current release is damaged the
previous one runs, then the one shipped with the device; when the state itself is lost it is
rebuilt from the signed documents.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from edge_agent.clock import Clock, read_system_clock
from edge_agent.config import InstallConfig
from edge_agent.exceptions import DiskFullError
from edge_agent.files import FileLayer
from edge_agent.install.decisions import Act, NextStep, SelfTestResult, decide
from edge_agent.install.fetch import FetchFile, ReleaseFetch
from edge_agent.install.journal import EventSink, Journal
from edge_agent.install.rollback import Rollback
from edge_agent.install.trials import Trials
from edge_agent.install.trusted_time import estimate_time
from edge_agent.install.verification import verify_answer
from edge_agent.releases.release_store import ReleaseStore
from edge_agent.releases.state import AgentState, Layout, ModelState
from edge_agent.releases.trust import Assignment, Manifest, TrustKey

logger = logging.getLogger(__name__)


class Installer:
    def __init__(
        self,
        *,
        files: FileLayer,
        layout: Layout,
        config: InstallConfig,
        device_id: str,
        trust_keys: tuple[TrustKey, ...],
        fetch_file: FetchFile,
        self_test: Callable[[Manifest], SelfTestResult],
        check_requirements: Callable[[Manifest], None],
        events: EventSink,
        read_clock: Callable[[], float] = time.time,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            read_clock: gives Unix seconds, as far as this machine knows.
            clock: tells boots apart and the time since; None takes this machine's.
        """
        self.device_id = device_id
        self.release_store = ReleaseStore(files, layout, device_id=device_id, trust_keys=trust_keys)
        self.journal = Journal(files, layout, events, trust_keys=trust_keys, read_clock=read_clock)
        self.release_fetch = ReleaseFetch(
            self.journal, config, fetch_file, check_requirements, clock=clock or read_system_clock()
        )
        self.trials = Trials(
            self.journal, self.release_store, self_test, max_tries=config.max_tries
        )
        self.rollback = Rollback(self.journal, self.release_store)

    def trust(self, trust_keys: tuple[TrustKey, ...], disk_keys: tuple[TrustKey, ...]) -> None:
        """Believes other keys from now on; `disk_keys` for what is on this disk already."""
        self.trust_keys = trust_keys
        self.release_store.trust(trust_keys, disk_keys)

    @property
    def trust_keys(self) -> tuple[TrustKey, ...]:
        """The keys that may sign what arrives."""
        return self.journal.trust_keys

    @trust_keys.setter
    def trust_keys(self, keys: tuple[TrustKey, ...]) -> None:
        self.journal.trust_keys = keys

    @property
    def state(self) -> AgentState:
        return self.journal.state

    def boot(self) -> None:
        """Finishes what the last run left: resumes or rolls back trials, mends broken releases.

        A disk that takes no more writes stops none of it for long: what runs goes on running.
        """
        self.journal.restore(self.release_store)
        for slug in sorted({*self.state.models, *self.release_store.factory_models()}):
            try:
                self._boot_model(slug)
            except (DiskFullError, OSError) as error:
                logger.error("model %s: left as it is: %s", slug, error)
        try:
            self.release_store.sweep(self.state)
        except OSError as error:
            logger.error("what is no longer needed stays on the disk: %s", error)

    def apply(self, slug: str, answer: dict[str, Any]) -> bool:
        """Acts on an assignment answer for `slug`; True when the model to run has changed.

        Raises:
            PublishedError: a rule of the protocol is broken; nothing has changed.
            TransferError, DiskFullError: the files could not be had now; asking again is right.
        """
        self.journal.restore(self.release_store)
        signers = self.release_store.read_signers(slug)
        self.journal.forget_lost_signer(slug, signers=signers, keys=self.trust_keys)
        assignment, manifest = self.verify(slug, answer)
        model = self.state.model(slug)
        unable = self.trials.unable.get(manifest.digest) if manifest else None
        decision = decide(model, assignment, manifest, unable=unable)
        if decision.act is Act.REMOVE:
            return self._remove(model, assignment, answer)
        if decision.act is Act.REFUSE:
            self._refuse(model, assignment, answer, decision)
        elif decision.act is Act.KEEP:
            self._keep(model, assignment, answer)
        elif decision.act is not Act.NOTHING:
            if decision.act is Act.INSTALL:
                assert manifest is not None
                self.release_fetch.fetch_release(slug, model, assignment, manifest, answer)
            return self.trials.run(slug)
        return False

    def verify(self, slug: str, answer: dict[str, Any]) -> tuple[Assignment, Manifest | None]:
        """The documents of an answer after every rule; the manifest is None for a removal."""
        return verify_answer(
            slug,
            answer,
            # Not `model()`: nothing is noted of a model before somebody trusted has named it.
            model=self.state.models.get(slug) or ModelState(),
            device_id=self.device_id,
            trust_keys=self.trust_keys,
            trusted_time=estimate_time(self.journal.witnesses()),
        )

    def roll_back(self, slug: str, *, code: str, detail: str) -> bool:
        """Blocks the current release and returns to the one before, or to the factory's.

        False, and nothing has changed, when there is no other.
        """
        return self.rollback.roll_back(slug, code=code, detail=detail)

    def recover(self, slug: str) -> None:
        """The current release is damaged on disk: run another one, and let a poll refetch it."""
        self.rollback.recover(slug)

    def cancel(self, assignment_id: str) -> None:
        """Forgets a trial whose assignment the server has taken back."""
        for model in self.state.models.values():
            if model.trial is not None and model.trial.assignment_id == assignment_id:
                model.forget_trial()
                self.journal.save()
                self.journal.report(assignment_id, "cancelled", "aborted")

    def end_watch(self, slug: str) -> None:
        self.state.model(slug).is_watched = False
        self.journal.save()

    def pin(self, slug: str, *, is_pinned: bool) -> None:
        """What runs stays, or follows the assignments again."""
        self.state.model(slug).is_pinned = is_pinned
        self.journal.save()

    def unblock(self, slug: str) -> None:
        """Lets every release of the model be fetched and tried again."""
        model = self.state.model(slug)
        model.blocked.clear()
        model.spending = None
        self.journal.save()

    def _refuse(
        self,
        model: ModelState,
        assignment: Assignment,
        answer: dict[str, Any],
        decision: NextStep,
    ) -> None:
        self.journal.accept(model, assignment, answer)
        self.journal.report(assignment.assignment_id, "failed", decision.code, decision.detail)

    def _keep(self, model: ModelState, assignment: Assignment, answer: dict[str, Any]) -> None:
        assert model.current is not None
        self.journal.accept(model, assignment, answer)
        model.forget_trial()
        model.current.assignment_id = assignment.assignment_id
        self.journal.save()
        self.journal.report(assignment.assignment_id, "committed", "already_running")

    def _remove(self, model: ModelState, assignment: Assignment, answer: dict[str, Any]) -> bool:
        had = model.current is not None
        is_new = assignment.counter > model.counter
        model.current = model.previous = None
        model.is_watched, model.candidates = False, []
        model.forget_trial()
        self.journal.accept(model, assignment, answer)
        if is_new:
            self.journal.report(assignment.assignment_id, "committed", "removed")
        self.release_store.sweep(self.state)
        return had

    def _boot_model(self, slug: str) -> None:
        if self.state.model(slug).trial is not None:
            self.trials.run(slug)
        self.trials.run_candidates(slug)
        model = self.state.model(slug)
        if model.current is not None and not self.release_store.is_whole(model.current):
            self.recover(slug)
        elif model.current is None and model.trial is None and model.action != "remove":
            model.current = self.rollback.find(slug, model)
            if model.current is not None:
                self.journal.save()
