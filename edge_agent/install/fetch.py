"""Fetches a release: checks its needs, then makes each file and the manifest durable."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from edge_agent.clock import Clock
from edge_agent.config import InstallConfig
from edge_agent.exceptions import DiskFullError, PublishedError, RequirementError
from edge_agent.files import write_atomic
from edge_agent.install.budget import Ledger, allow
from edge_agent.install.journal import Journal
from edge_agent.releases.state import ModelState, Release, Spending
from edge_agent.releases.trust import (
    MANIFEST_TYPE,
    Assignment,
    Manifest,
    ManifestFile,
    keep_proof,
)


class FetchFile(Protocol):
    """Makes one file of a release whole and durable in `blobs/`."""

    def __call__(self, file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> None: ...


class ReleaseFetch:
    def __init__(
        self,
        journal: Journal,
        config: InstallConfig,
        fetch_file: FetchFile,
        check_requirements: Callable[[Manifest], None],
        *,
        clock: Clock,
    ) -> None:
        self.journal = journal
        self.config = config
        self.clock = clock
        self.fetch_file = fetch_file
        self.check_requirements = check_requirements

    def fetch_release(
        self,
        slug: str,
        model: ModelState,
        assignment: Assignment,
        manifest: Manifest,
        answer: dict[str, Any],
    ) -> None:
        """Makes the assigned release the trial of `model`; blocks one that this device cannot run.

        Raises:
            PublishedError, DiskFullError: reported as a failure of the assignment.
            TransferError, BudgetError: the files could not be had now.
        """
        journal = self.journal
        if model.trial is not None:
            journal.report(model.trial.assignment_id, "cancelled", "superseded")
        try:
            self.check_requirements(manifest)
        except RequirementError as error:
            journal.accept(model, assignment, answer)
            model.blocked[manifest.digest] = f"{error.code}: {error}"
            journal.save()
            journal.report(assignment.assignment_id, "failed", error.code, str(error))
            return
        journal.report(assignment.assignment_id, "downloading")
        ledger = self._open_ledger(slug, manifest)
        try:
            for file in manifest.files:
                self.fetch_file(file, answer, ledger)
        except Exception as error:
            with contextlib.suppress(DiskFullError, OSError):
                ledger.settle()
            # A transfer that broke off is no failure of the release, and is not reported as one.
            if isinstance(error, PublishedError | DiskFullError):
                journal.report(assignment.assignment_id, "failed", error.code, str(error))
            raise
        self._keep_manifest(manifest, answer)
        journal.report(assignment.assignment_id, "verified")
        model.trial = Release(
            manifest.digest, assignment.assignment_id, manifest.version, manifest.variant
        )
        model.tries, model.spending = 0, None
        journal.accept(model, assignment, answer)

    def _open_ledger(self, slug: str, manifest: Manifest) -> Ledger:
        """What fetching this release is charged to; another release's spending is forgotten."""

        def write(spending: Spending) -> None:
            self.journal.state.model(slug).spending = spending
            self.journal.save()

        known = self.journal.state.model(slug).spending
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

    def _keep_manifest(self, manifest: Manifest, answer: dict[str, Any]) -> None:
        files, layout = self.journal.files, self.journal.layout
        # This release is here; what is left was begun for one that has been superseded.
        for name in files.list(layout.parts):
            files.unlink(layout.parts / name)
        proof = keep_proof(
            answer["manifest"],
            keys=self.journal.trust_keys,
            payload_type=MANIFEST_TYPE,
            role="manifest",
        )
        write_atomic(files, layout.manifest(manifest.digest), proof)
