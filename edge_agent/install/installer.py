"""Brings a verified release to the point where it runs, and takes it back when it does not.

The order of writes is what survives a power cut:

    blobs, manifest, assignment -> trial -> tries + 1 -> self-test -> current and previous in one

Whatever is lost, `current` names a release whose files are whole, and a release that kills the
device during its self-test is blocked after `max_tries`. When the current release is damaged the
previous one runs, then the one shipped with the device; when the state itself is lost it is
rebuilt from the signed documents (`rebuild.py`).
"""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from edge_agent import RELEASED_ON, __version__
from edge_agent.clock import Clock, read_system_clock
from edge_agent.config import InstallConfig
from edge_agent.exceptions import (
    DiskFullError,
    PublishedError,
    RequirementError,
    StateError,
)
from edge_agent.files import FileLayer, write_atomic
from edge_agent.install.budget import Ledger, allow
from edge_agent.install.trusted_time import Witnesses, choose_signed_time, estimate_time
from edge_agent.releases.factory import read_manifest
from edge_agent.releases.holdings import Holdings
from edge_agent.releases.rebuild import rebuild_state
from edge_agent.releases.state import AgentState, Layout, ModelState, Release, Spending, StateStore
from edge_agent.releases.trust import (
    ASSIGNMENT_TYPE,
    Assignment,
    LastActed,
    Manifest,
    ManifestFile,
    TrustKey,
    check_assignment,
    check_manifest,
    parse_assignment,
    verify_envelope,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelfTestResult:
    is_passed: bool
    code: str = ""
    detail: str = ""
    is_device_fault: bool = False
    """The release may be good: this device cannot run it as it is set up now."""


class Fetcher(Protocol):
    """Makes one file of a release whole and durable in `blobs/`."""

    def __call__(self, file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> None: ...


class EventSink(Protocol):
    def add_event(self, assignment_id: str, state: str, code: str, detail: str) -> None: ...


class Installer:
    def __init__(
        self,
        *,
        files: FileLayer,
        layout: Layout,
        config: InstallConfig,
        device_id: str,
        trust_keys: tuple[TrustKey, ...],
        fetch: Fetcher,
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
        self.files = files
        self.layout = layout
        self.config = config
        self.device_id = device_id
        self.trust_keys = trust_keys
        self.fetch = fetch
        self.self_test = self_test
        self.check_requirements = check_requirements
        self.events = events
        self.read_clock = read_clock
        self.clock = clock or read_system_clock()
        self.holdings = Holdings(files, layout, device_id=device_id, trust_keys=trust_keys)
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
        self._unable: dict[str, SelfTestResult] = {}
        """Releases that this device could not run. Not on disk: a restart after the driver was
        mended tries them again."""

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

    def boot(self) -> None:
        """Finishes what the last run left: resumes or rolls back trials, mends broken releases.

        A disk that takes no more writes stops none of it for long: what runs goes on running.
        """
        self.restore_state()
        for slug in sorted({*self.state.models, *self.holdings.factory_models()}):
            try:
                self._boot_model(slug)
            except (DiskFullError, OSError) as error:
                logger.error("model %s: left as it is: %s", slug, error)
        self.holdings.sweep(self.state)

    def restore_state(self) -> None:
        """Rebuilds a state that is missing or damaged from the documents that are still there."""
        if self._is_state_known:
            return
        assignments = self.holdings.read_assignments()
        manifests = self.holdings.whole_manifests()
        self.state = rebuild_state(assignments=assignments, manifests=manifests)
        self._is_state_known = True
        self.store.set_aside()
        if self.state.models:
            logger.error("state rebuilt from %d assignments", len(assignments))
            self.save()

    def apply(self, slug: str, answer: dict[str, Any]) -> bool:
        """Acts on an assignment answer for `slug`; True when the model to run has changed.

        Raises:
            PublishedError: a rule of the protocol is broken; nothing has changed.
            TransferError, DiskFullError: the files could not be had now; asking again is right.
        """
        self.restore_state()
        self._forget_lost_signer(slug)
        assignment, manifest = self.verify(slug, answer)
        model = self.state.model(slug)
        if model.is_pinned:
            return False
        if assignment.action == "remove":
            return self._remove(model, assignment, answer)
        assert manifest is not None
        reason = model.blocked.get(manifest.digest)
        is_new = assignment.counter > model.counter
        if reason is not None:
            if is_new:
                self._accept(model, assignment, answer)
                self._report(assignment.assignment_id, "failed", "blocked", reason)
            return False
        unable = self._unable.get(manifest.digest)
        if unable is not None:
            if is_new:
                self._accept(model, assignment, answer)
                self._report(assignment.assignment_id, "failed", unable.code, unable.detail)
            return False
        if model.current is not None and model.current.manifest_sha256 == manifest.digest:
            if is_new or model.trial is not None:
                self._accept(model, assignment, answer)
                model.trial, model.tries = None, 0
                model.current.assignment_id = assignment.assignment_id
                self.save()
                self._report(assignment.assignment_id, "committed", "already_running", "")
            return False
        self._install(slug, model, assignment, manifest, answer)
        return self.try_trial(slug)

    def verify(self, slug: str, answer: dict[str, Any]) -> tuple[Assignment, Manifest | None]:
        """The documents of an answer after every rule; the manifest is None for a removal."""
        # Not `model()`: nothing is noted of a model before somebody trusted has named it.
        model = self.state.models.get(slug) or ModelState()
        assignment = parse_assignment(
            verify_envelope(
                answer.get("assignment"),
                keys=self.trust_keys,
                payload_type=ASSIGNMENT_TYPE,
                role="assignment",
            )
        )
        check_assignment(
            assignment,
            device_id=self.device_id,
            model=slug,
            last=LastActed(model.counter, model.manifest_sha256, model.action),
            trusted_time=estimate_time(self._witnesses()),
        )
        manifest = None
        if assignment.action == "install":
            manifest = read_manifest(answer.get("manifest"), self.trust_keys)
            check_manifest(manifest, assignment=assignment, agent_version=__version__)
        return assignment, manifest

    def try_trial(self, slug: str) -> bool:
        """One try of the trial release; True when it became the current one."""
        model = self.state.model(slug)
        trial = model.trial
        if trial is None:
            return False
        if model.tries >= self.config.max_tries:
            detail = f"{model.tries} tries were interrupted"
            self._fail_trial(model, "self_test_interrupted", detail, "rolled_back")
            return False
        if not self.holdings.is_whole(trial):
            # Not the release's fault: forget the trial, the next poll fetches the files again.
            model.trial, model.tries = None, 0
            self.save()
            return False
        model.tries += 1
        self.save()
        self._report(trial.assignment_id, "trial", "", f"try {model.tries}")
        result = self.self_test(self.holdings.load_manifest(trial.manifest_sha256))
        if not result.is_passed:
            if result.is_device_fault:
                self._give_up_trial(model, result)
            else:
                self._fail_trial(model, result.code, result.detail, "failed")
            return False
        model.previous = model.current or self.holdings.first_whole(model.candidates)
        model.current, model.candidates = trial, []
        model.trial, model.tries, model.is_watched = None, 0, True
        self.save()
        logger.info("model %s committed %s (%s)", slug, trial.version, trial.variant)
        self._report(trial.assignment_id, "committed", "", result.detail)
        self.holdings.sweep(self.state)
        return True

    def roll_back(self, slug: str, *, code: str, detail: str) -> bool:
        """Blocks the current release and returns to the one before, or to the factory's.

        False, and nothing has changed, when there is no other.
        """
        model = self.state.model(slug)
        failed = model.current
        fallback = self._find_fallback(slug, model)
        if failed is None or fallback is None:
            return False
        model.blocked[failed.manifest_sha256] = f"{code}: {detail}"
        model.current, model.previous, model.is_watched = fallback, None, False
        self.save()
        logger.error("model %s rolled back from %s: %s", slug, failed.version, code)
        self._report(failed.assignment_id, "rolled_back", code, detail)
        self.holdings.sweep(self.state)
        return True

    def mend(self, slug: str) -> None:
        """The current release is damaged on disk: run another one, and let a poll refetch it.

        Nothing is blocked: the release itself did nothing wrong.
        """
        model = self.state.model(slug)
        broken = model.current
        if broken is None:
            return
        logger.error("model %s: current release %s is damaged", slug, broken.version)
        self.holdings.drop_damaged(broken)
        fallback = self._find_fallback(slug, model)
        model.current, model.previous, model.is_watched = fallback, None, False
        try:
            self.store.save(self.state)
        except (DiskFullError, OSError) as error:
            # Memory keeps it: the damaged release must not run meanwhile.
            logger.error("model %s: the fallback is not durable yet: %s", slug, error)
        self._report(broken.assignment_id, "failed", "blob_corrupt", "damaged on disk")

    def cancel(self, assignment_id: str) -> None:
        """Forgets a trial whose assignment the server has taken back."""
        for model in self.state.models.values():
            if model.trial is not None and model.trial.assignment_id == assignment_id:
                model.trial, model.tries = None, 0
                self.save()
                self._report(assignment_id, "cancelled", "aborted", "")

    def end_watch(self, slug: str) -> None:
        self.state.model(slug).is_watched = False
        self.save()

    def _install(
        self,
        slug: str,
        model: ModelState,
        assignment: Assignment,
        manifest: Manifest,
        answer: dict[str, Any],
    ) -> None:
        if model.trial is not None and model.trial.manifest_sha256 == manifest.digest:
            return
        if model.trial is not None:
            self._report(model.trial.assignment_id, "cancelled", "superseded", "")
        try:
            self.check_requirements(manifest)
        except RequirementError as error:
            self._accept(model, assignment, answer)
            model.blocked[manifest.digest] = f"{error.code}: {error}"
            self.save()
            self._report(assignment.assignment_id, "failed", error.code, str(error))
            return
        self._report(assignment.assignment_id, "downloading", "", "")
        ledger = self._open_ledger(slug, manifest)
        try:
            for file in manifest.files:
                self.fetch(file, answer, ledger)
        except Exception as error:
            with contextlib.suppress(DiskFullError, OSError):
                ledger.settle()
            # A transfer that broke off is no failure of the release, and is not reported as one.
            if isinstance(error, PublishedError | DiskFullError):
                self._report(assignment.assignment_id, "failed", error.code, str(error))
            raise
        # This release is here; what is left was begun for one that has been superseded.
        for name in self.files.list(self.layout.parts):
            self.files.unlink(self.layout.parts / name)
        write_atomic(
            self.files,
            self.layout.manifest(manifest.digest),
            json.dumps(answer["manifest"]).encode(),
        )
        self._report(assignment.assignment_id, "verified", "", "")
        model.trial = Release(
            manifest.digest, assignment.assignment_id, manifest.version, manifest.variant
        )
        model.tries, model.spending = 0, None
        self._accept(model, assignment, answer)

    def _open_ledger(self, slug: str, manifest: Manifest) -> Ledger:
        """What fetching this release is charged to; another release's spending is forgotten."""

        def write(spending: Spending) -> None:
            self.state.model(slug).spending = spending
            self.save()

        known = self.state.model(slug).spending
        if known is None or known.manifest_sha256 != manifest.digest:
            known = Spending(manifest.digest, boot_id=self.clock.boot_id)
            known.since_boot_s = self.clock.since_boot()
        allowance = allow(
            manifest,
            sizes=self.config.download_budget_sizes,
            attempts=self.config.download_budget_attempts,
            refill_s=self.config.download_budget_refill_s,
        )
        return Ledger(dataclasses.replace(known), allowance, self.clock, write=write)

    def _accept(self, model: ModelState, assignment: Assignment, answer: dict[str, Any]) -> None:
        # The signed proof of the counter, for the day the state is lost; before the state, so that
        # no counter was acted on without it.
        write_atomic(
            self.files,
            self.layout.assignment(assignment.model),
            json.dumps(answer["assignment"]).encode(),
        )
        model.counter = assignment.counter
        model.manifest_sha256 = assignment.manifest_sha256
        model.action = assignment.action
        latest = choose_signed_time(self._witnesses(), assignment.issued_at)
        self.state.trusted_time = latest.isoformat()
        self.save()

    def _remove(self, model: ModelState, assignment: Assignment, answer: dict[str, Any]) -> bool:
        had = model.current is not None
        is_new = assignment.counter > model.counter
        model.current = model.previous = model.trial = None
        model.tries, model.is_watched, model.candidates = 0, False, []
        self._accept(model, assignment, answer)
        if is_new:
            self._report(assignment.assignment_id, "committed", "removed", "")
        self.holdings.sweep(self.state)
        return had

    def _fail_trial(self, model: ModelState, code: str, detail: str, state: str) -> None:
        trial = model.trial
        assert trial is not None
        model.blocked[trial.manifest_sha256] = f"{code}: {detail}"
        model.trial, model.tries = None, 0
        self.save()
        logger.error("release %s is blocked: %s %s", trial.version, code, detail)
        self._report(trial.assignment_id, state, code, detail)
        # Not left lying for a rebuild of the state to find.
        self.holdings.sweep(self.state)

    def _give_up_trial(self, model: ModelState, result: SelfTestResult) -> None:
        """Forgets the trial without blocking its release, which is not to blame."""
        trial = model.trial
        assert trial is not None
        self._unable[trial.manifest_sha256] = result
        model.trial, model.tries = None, 0
        self.save()
        logger.error("release %s cannot run here: %s", trial.version, result.detail)
        self._report(trial.assignment_id, "failed", result.code, result.detail)

    def _boot_model(self, slug: str) -> None:
        if self.state.model(slug).trial is not None:
            self.try_trial(slug)
        self._try_candidates(slug)
        model = self.state.model(slug)
        if model.current is not None and not self.holdings.is_whole(model.current):
            self.mend(slug)
        elif model.current is None and model.trial is None and model.action != "remove":
            model.current = self._find_fallback(slug, model)
            if model.current is not None:
                self.save()

    def _find_fallback(self, slug: str, model: ModelState) -> Release | None:
        """What may run in place of the current release: the previous one, else the factory's."""
        if model.previous is not None and self.holdings.is_whole(model.previous):
            return model.previous
        barred = set(model.blocked)
        if model.current is not None and self.holdings.is_whole(model.current):
            barred.add(model.current.manifest_sha256)
        return self.holdings.take_factory_release(slug, barred=barred)

    def _try_candidates(self, slug: str) -> None:
        """After a lost state: the first candidate that passes its self-test runs."""
        for _ in range(len(self.state.model(slug).candidates)):
            model = self.state.model(slug)
            if model.current is not None or model.trial is not None:
                return
            model.trial, model.tries = self.holdings.first_whole(model.candidates[:1]), 0
            del model.candidates[:1]
            self.save()
            self.try_trial(slug)

    def _forget_lost_signer(self, slug: str) -> None:
        """A counter and a time count only while the key that signed them is trusted.

        This is the way back from a key that somebody else had: a new one starts anew (TUF 1.0.34,
        5.3.11, on fast-forward attacks).
        """
        model = self.state.models.get(slug)
        trusted = {key.keyid for key in self.trust_keys if "assignment" in key.roles}
        signers = self.holdings.read_signers(slug)
        if model is None or not model.counter or not signers or not trusted:
            return
        if not signers & trusted:
            logger.error("model %s: the key behind counter %d is gone", slug, model.counter)
            model.counter, model.manifest_sha256, model.action = 0, "", ""
            self.state.trusted_time = ""

    def _witnesses(self) -> Witnesses:
        return Witnesses(
            released=datetime.fromisoformat(RELEASED_ON).replace(tzinfo=UTC),
            own=datetime.fromtimestamp(self.read_clock(), UTC),
            signed=_parse_time(self.state.trusted_time),
            server=self.server_time,
        )

    def _report(self, assignment_id: str, state: str, code: str, detail: str) -> None:
        """A report is a courtesy: failing to note it never undoes what happened."""
        if not assignment_id:
            return  # no assignment brought this release: it was shipped, or found again
        try:
            self.events.add_event(assignment_id, state, code, detail[:500])
        except Exception:
            logger.exception("event %s of %s could not be noted", state, assignment_id)


def _parse_time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
