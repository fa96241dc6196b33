"""Tries the release that has arrived: it runs from now on, or is blocked, or is given up."""

import logging
from collections.abc import Callable
from typing import Any

from edge_agent.install.decisions import SelfTestResult
from edge_agent.install.journal import Journal
from edge_agent.releases.release_store import ReleaseStore
from edge_agent.releases.state import ModelState, Release
from edge_agent.releases.trust import Manifest

logger = logging.getLogger(__name__)


class Trials:
    def __init__(
        self,
        journal: Journal,
        release_store: ReleaseStore,
        self_test: Callable[[Manifest], SelfTestResult],
        *,
        max_tries: int,
    ) -> None:
        """`max_tries`: interrupted tries of one release before it is blocked."""
        self.journal = journal
        self.release_store = release_store
        self.self_test = self_test
        self.max_tries = max_tries
        self.unable: dict[str, SelfTestResult] = {}
        """Releases that this device could not run. Not on disk: a restart after the driver was
        mended tries them again."""

    def run(self, slug: str) -> bool:
        """One try of the trial release; True when it became the current one."""
        journal, model = self.journal, self.journal.state.model(slug)
        trial = model.trial
        if trial is None:
            return False
        if model.tries >= self.max_tries:
            detail = f"{model.tries} tries were interrupted"
            self._block(model, trial, "self_test_interrupted", detail, "rolled_back")
            return False
        if not self.release_store.is_whole(trial):
            # Not the release's fault: forget the trial, the next poll fetches the files again.
            model.forget_trial()
            journal.save()
            return False
        model.tries += 1
        journal.save()
        journal.report(trial.assignment_id, "trial", "", f"try {model.tries}")
        result = self.self_test(self.release_store.load_manifest(trial.manifest_sha256))
        if result.is_passed:
            self._commit(slug, model, trial, result)
        elif result.is_device_fault:
            self._give_up(model, trial, result)
        else:
            self._block(model, trial, result.code, result.detail, "failed", result.measured)
        return result.is_passed

    def run_candidates(self, slug: str) -> None:
        """After a lost state: the first candidate that passes its self-test runs."""
        for _ in range(len(self.journal.state.model(slug).candidates)):
            model = self.journal.state.model(slug)
            if model.current is not None or model.trial is not None:
                return
            model.trial, model.tries = self.release_store.first_whole(model.candidates[:1]), 0
            del model.candidates[:1]
            self.journal.save()
            self.run(slug)

    def _commit(self, slug: str, model: ModelState, trial: Release, result: SelfTestResult) -> None:
        # In one write: whatever is lost, `current` names a release that has passed.
        model.previous = model.current or self.release_store.first_whole(model.candidates)
        model.current, model.candidates, model.is_watched = trial, [], True
        model.forget_trial()
        self.journal.save()
        logger.info("model %s committed %s (%s)", slug, trial.version, trial.variant)
        self.journal.report(trial.assignment_id, "committed", "", result.detail, result.measured)
        self.release_store.sweep(self.journal.state)

    def _block(
        self,
        model: ModelState,
        trial: Release,
        code: str,
        detail: str,
        state: str,
        measured: dict[str, Any] | None = None,
    ) -> None:
        model.blocked[trial.manifest_sha256] = f"{code}: {detail}"
        model.forget_trial()
        self.journal.save()
        logger.error("release %s is blocked: %s %s", trial.version, code, detail)
        self.journal.report(trial.assignment_id, state, code, detail, measured)
        # Not left lying for a rebuild of the state to find.
        self.release_store.sweep(self.journal.state)

    def _give_up(self, model: ModelState, trial: Release, result: SelfTestResult) -> None:
        """Forgets the trial without blocking its release, which is not to blame."""
        self.unable[trial.manifest_sha256] = result
        model.forget_trial()
        self.journal.save()
        logger.error("release %s cannot run here: %s", trial.version, result.detail)
        self.journal.report(trial.assignment_id, "failed", result.code, result.detail)
