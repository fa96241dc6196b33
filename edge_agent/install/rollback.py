"""Takes a release back: the one before it runs again, else the one shipped with the device.

All causes for which a release is taken back, what judges each, and what becomes of the release:

- It fails, or is slow, on live inputs where the release before is not: `live_watch.judge`, code
  `health_check_failed`; blocked.
- The runtime refuses it although its self-test passed: `serving/sessions.py`, the error's code;
  blocked.
- A person asks for it on the device: `aviary-agent rollback`, code `requested`; blocked.
- Its files are damaged on the disk: digests, at each load; code `blob_corrupt`. Not blocked: the
  next poll fetches it anew.

A release that never ran is not taken back but blocked or given up (`trials.py`): a self-test that
fails or is interrupted too often. No cause is the network, the server's silence or a clock. An
assignment that removes a model is an order and no cause.
"""

import logging
from dataclasses import dataclass

from edge_agent.config import InstallConfig
from edge_agent.exceptions import DiskFullError
from edge_agent.install.journal import Journal
from edge_agent.install.live_watch import WatchCounts, judge
from edge_agent.releases.release_store import ReleaseStore
from edge_agent.releases.state import ModelState, Release

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveVerdict:
    is_over: bool
    """The watch has ended, one way or the other."""
    is_taken_back: bool


class Rollback:
    def __init__(self, journal: Journal, release_store: ReleaseStore) -> None:
        self.journal = journal
        self.release_store = release_store

    def find(self, slug: str, model: ModelState) -> Release | None:
        """What may run in place of the current release: the previous one, else the factory's."""
        if model.previous is not None and self.release_store.is_whole(model.previous):
            return model.previous
        barred = set(model.blocked)
        if model.current is not None and self.release_store.is_whole(model.current):
            barred.add(model.current.manifest_sha256)
        return self.release_store.take_factory_release(slug, barred=barred)

    def judge_live(
        self,
        slug: str,
        evidence: WatchCounts,
        *,
        watched_s: float,
        has_previous: bool,
        config: InstallConfig,
    ) -> LiveVerdict:
        """Judges a young release by its live evidence, and takes it back when it must go."""
        verdict = judge(evidence, watched_s=watched_s, has_previous=has_previous, config=config)
        is_taken_back = bool(verdict.code) and self.roll_back(
            slug, code=verdict.code, detail=verdict.detail
        )
        return LiveVerdict(verdict.is_over, is_taken_back)

    def roll_back(self, slug: str, *, code: str, detail: str) -> bool:
        """Blocks the current release and returns to the one before, or to the factory's.

        False, and nothing has changed, when there is no other.
        """
        model = self.journal.state.model(slug)
        failed, fallback = model.current, self.find(slug, model)
        if failed is None or fallback is None:
            return False
        model.blocked[failed.manifest_sha256] = f"{code}: {detail}"
        model.current, model.previous, model.is_watched = fallback, None, False
        self.journal.save()
        logger.error("model %s rolled back from %s: %s", slug, failed.version, code)
        self.journal.report(failed.assignment_id, "rolled_back", code, detail)
        self.release_store.sweep(self.journal.state)
        return True

    def recover(self, slug: str) -> None:
        """The current release is damaged on disk: run another one, and let a poll refetch it.

        Nothing is blocked: the release itself did nothing wrong.
        """
        model = self.journal.state.model(slug)
        broken = model.current
        if broken is None:
            return
        logger.error("model %s: current release %s is damaged", slug, broken.version)
        self.release_store.drop_damaged(broken)
        fallback = self.find(slug, model)
        model.current, model.previous, model.is_watched = fallback, None, False
        try:
            self.journal.store.save(self.journal.state)
        except (DiskFullError, OSError) as error:
            # Memory keeps it: the damaged release must not run meanwhile.
            logger.error("model %s: the fallback is not durable yet: %s", slug, error)
        self.journal.report(broken.assignment_id, "failed", "blob_corrupt", "damaged on disk")
