"""Brings a verified release to the point where it runs, and takes it back when it does not.

The order of writes is what survives a power cut:

    blobs, manifest -> trial -> tries + 1 -> self-test -> current and previous in one write

Whatever is lost, `current` names a release whose files are whole, and a release that kills the
device during its self-test is blocked after `max_tries`.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from edge_agent import __version__
from edge_agent.config import InstallConfig
from edge_agent.exceptions import BlobCorruptError, DiskFullError, PublishedError, RequirementError
from edge_agent.files import FileLayer, write_atomic
from edge_agent.state import AgentState, Layout, ModelState, Release, StateStore
from edge_agent.trust import (
    ASSIGNMENT_TYPE,
    MANIFEST_TYPE,
    Assignment,
    LastActed,
    Manifest,
    ManifestFile,
    TrustKey,
    check_assignment,
    check_manifest,
    parse_assignment,
    parse_manifest,
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

    def __call__(self, file: ManifestFile, answer: dict[str, Any]) -> None: ...


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
    ) -> None:
        self.files = files
        self.layout = layout
        self.config = config
        self.device_id = device_id
        self.trust_keys = trust_keys
        self.fetch = fetch
        self.self_test = self_test
        self.check_requirements = check_requirements
        self.events = events
        self.store = StateStore(files, layout)
        self.state: AgentState = self.store.load()
        self._unable: dict[str, SelfTestResult] = {}
        """Releases that this device could not run. Not on disk: a restart after the driver was
        mended tries them again."""

    def save(self) -> None:
        self.store.save(self.state)

    def boot(self) -> None:
        """Finishes what the last run left: resumes or rolls back trials, mends broken releases."""
        for slug, model in self.state.models.items():
            if model.trial is not None:
                self.try_trial(slug)
            if model.current is not None and not self.is_whole(model.current):
                self._mend(slug, model)
        self.sweep()

    def apply(self, slug: str, answer: dict[str, Any]) -> bool:
        """Acts on an assignment answer for `slug`; True when the model to run has changed.

        Raises:
            PublishedError: a rule of the protocol is broken; nothing has changed.
            TransferError, DiskFullError: the files could not be had now; asking again is right.
        """
        assignment, manifest = self.verify(slug, answer)
        model = self.state.model(slug)
        if model.is_pinned:
            return False
        if assignment.action == "remove":
            return self._remove(slug, model, assignment)
        assert manifest is not None
        reason = model.blocked.get(manifest.digest)
        is_new = assignment.counter > model.counter
        if reason is not None:
            if is_new:
                self._accept(model, assignment)
                self._report(assignment.assignment_id, "failed", "blocked", reason)
            return False
        unable = self._unable.get(manifest.digest)
        if unable is not None:
            if is_new:
                self._accept(model, assignment)
                self._report(assignment.assignment_id, "failed", unable.code, unable.detail)
            return False
        if model.current is not None and model.current.manifest_sha256 == manifest.digest:
            if is_new or model.trial is not None:
                self._accept(model, assignment)
                model.trial, model.tries = None, 0
                model.current.assignment_id = assignment.assignment_id
                self.save()
                self._report(assignment.assignment_id, "committed", "already_running", "")
            return False
        self._install(slug, model, assignment, manifest, answer)
        return self.try_trial(slug)

    def verify(self, slug: str, answer: dict[str, Any]) -> tuple[Assignment, Manifest | None]:
        """The documents of an answer after every rule; the manifest is None for a removal."""
        model = self.state.model(slug)
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
            trusted_time=_parse_time(self.state.trusted_time),
        )
        manifest = None
        if assignment.action == "install":
            manifest = self.read_envelope(answer.get("manifest"))
            check_manifest(manifest, assignment=assignment, agent_version=__version__)
        return assignment, manifest

    def read_envelope(self, envelope: Any) -> Manifest:
        return parse_manifest(
            verify_envelope(
                envelope, keys=self.trust_keys, payload_type=MANIFEST_TYPE, role="manifest"
            )
        )

    def load_manifest(self, digest: str) -> Manifest:
        """The stored manifest, verified again: the disk is not trusted more than the network."""
        data = self.files.read(self.layout.manifest(digest))
        if data is None:
            raise BlobCorruptError(f"manifest {digest} is missing")
        try:
            manifest = self.read_envelope(json.loads(data))
        except (ValueError, PublishedError) as error:
            raise BlobCorruptError(f"manifest {digest}: {error}") from error
        if manifest.digest != digest:
            raise BlobCorruptError(f"manifest {digest} holds {manifest.digest}")
        return manifest

    def is_whole(self, release: Release) -> bool:
        """True when the manifest and every file of `release` are here with the signed digests."""
        try:
            manifest = self.load_manifest(release.manifest_sha256)
        except BlobCorruptError as error:
            logger.error("%s", error)
            return False
        return all(
            self.files.digest(self.layout.blob(file.sha256)) == file.sha256
            for file in manifest.files
        )

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
        if not self.is_whole(trial):
            # Not the release's fault: forget the trial, the next poll fetches the files again.
            model.trial, model.tries = None, 0
            self.save()
            return False
        model.tries += 1
        self.save()
        self._report(trial.assignment_id, "trial", "", f"try {model.tries}")
        result = self.self_test(self.load_manifest(trial.manifest_sha256))
        if not result.is_passed:
            if result.is_device_fault:
                self._give_up_trial(model, result)
            else:
                self._fail_trial(model, result.code, result.detail, "failed")
            return False
        model.previous, model.current = model.current, trial
        model.trial, model.tries, model.is_watched = None, 0, True
        self.save()
        logger.info("model %s committed %s (%s)", slug, trial.version, trial.variant)
        self._report(trial.assignment_id, "committed", "", result.detail)
        self.sweep()
        return True

    def roll_back(self, slug: str, *, code: str, detail: str) -> bool:
        """Blocks the current release and returns to the previous one; False when there is none."""
        model = self.state.model(slug)
        if model.current is None or model.previous is None or not self.is_whole(model.previous):
            return False
        failed = model.current
        model.blocked[failed.manifest_sha256] = f"{code}: {detail}"
        model.current, model.previous, model.is_watched = model.previous, None, False
        self.save()
        logger.error("model %s rolled back from %s: %s", slug, failed.version, code)
        self._report(failed.assignment_id, "rolled_back", code, detail)
        return True

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

    def sweep(self) -> None:
        """Removes blobs, parts and manifests that no release on this device names."""
        blobs: set[str] = set()
        manifests: set[str] = set()
        for model in self.state.models.values():
            for release in (model.current, model.previous, model.trial):
                if release is None:
                    continue
                manifests.add(release.manifest_sha256)
                try:
                    manifest = self.load_manifest(release.manifest_sha256)
                except BlobCorruptError:
                    return
                blobs |= {file.sha256 for file in manifest.files}
        for name in self.files.list(self.layout.blobs):
            if name not in blobs:
                self.files.unlink(self.layout.blobs / name)
        for name in self.files.list(self.layout.manifests):
            if name.removesuffix(".json") not in manifests:
                self.files.unlink(self.layout.manifests / name)
        for name in self.files.list(self.layout.parts):
            if name.removesuffix(".part") in blobs:
                self.files.unlink(self.layout.parts / name)

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
            self._accept(model, assignment)
            model.blocked[manifest.digest] = f"{error.code}: {error}"
            self.save()
            self._report(assignment.assignment_id, "failed", error.code, str(error))
            return
        self._report(assignment.assignment_id, "downloading", "", "")
        try:
            for file in manifest.files:
                self.fetch(file, answer)
        except (PublishedError, DiskFullError) as error:
            # A transfer that broke off is no failure of the release, and is not reported as one.
            self._report(assignment.assignment_id, "failed", error.code, str(error))
            raise
        write_atomic(
            self.files,
            self.layout.manifest(manifest.digest),
            json.dumps(answer["manifest"]).encode(),
        )
        self._report(assignment.assignment_id, "verified", "", "")
        model.trial = Release(
            manifest.digest, assignment.assignment_id, manifest.version, manifest.variant
        )
        model.tries = 0
        self._accept(model, assignment)

    def _accept(self, model: ModelState, assignment: Assignment) -> None:
        model.counter = assignment.counter
        model.manifest_sha256 = assignment.manifest_sha256
        model.action = assignment.action
        known = _parse_time(self.state.trusted_time)
        latest = max(known, assignment.issued_at) if known else assignment.issued_at
        self.state.trusted_time = latest.isoformat()
        self.save()

    def _remove(self, slug: str, model: ModelState, assignment: Assignment) -> bool:
        had = model.current is not None
        is_new = assignment.counter > model.counter
        model.current = model.previous = model.trial = None
        model.tries, model.is_watched = 0, False
        self._accept(model, assignment)
        if is_new:
            self._report(assignment.assignment_id, "committed", "removed", "")
        self.sweep()
        return had

    def _fail_trial(self, model: ModelState, code: str, detail: str, state: str) -> None:
        trial = model.trial
        assert trial is not None
        model.blocked[trial.manifest_sha256] = f"{code}: {detail}"
        model.trial, model.tries = None, 0
        self.save()
        logger.error("release %s is blocked: %s %s", trial.version, code, detail)
        self._report(trial.assignment_id, state, code, detail)

    def _give_up_trial(self, model: ModelState, result: SelfTestResult) -> None:
        """Forgets the trial without blocking its release, which is not to blame."""
        trial = model.trial
        assert trial is not None
        self._unable[trial.manifest_sha256] = result
        model.trial, model.tries = None, 0
        self.save()
        logger.error("release %s cannot run here: %s", trial.version, result.detail)
        self._report(trial.assignment_id, "failed", result.code, result.detail)

    def _mend(self, slug: str, model: ModelState) -> None:
        """The current release is damaged on disk: run the previous one, and let a poll refetch."""
        broken = model.current
        assert broken is not None
        logger.error("model %s: current release %s is damaged", slug, broken.version)
        model.current, model.previous, model.is_watched = model.previous, None, False
        if model.current is not None and not self.is_whole(model.current):
            model.current = None
        self.save()
        self._report(broken.assignment_id, "failed", "blob_corrupt", "damaged on disk")

    def _report(self, assignment_id: str, state: str, code: str, detail: str) -> None:
        """A report is a courtesy: failing to note it never undoes what happened."""
        try:
            self.events.add_event(assignment_id, state, code, detail[:500])
        except Exception:
            logger.exception("event %s of %s could not be noted", state, assignment_id)


def _parse_time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
