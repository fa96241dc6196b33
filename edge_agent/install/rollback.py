"""Takes a release back: the one before it runs again, else the one shipped with the device."""

import logging

from edge_agent.exceptions import DiskFullError
from edge_agent.install.journal import Journal
from edge_agent.releases.release_store import ReleaseStore
from edge_agent.releases.state import ModelState, Release

logger = logging.getLogger(__name__)


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
