"""Keeps a session of each model's current release in its slot, or of what takes its place."""

import logging
from typing import TYPE_CHECKING

from edge_agent.config import Config, InferenceConfig
from edge_agent.exceptions import AgentError, BlobCorruptError, InferenceError, ProviderError
from edge_agent.files import FileLayer
from edge_agent.install.installer import Installer
from edge_agent.memory import read_available_bytes
from edge_agent.releases.bundles import place_files
from edge_agent.releases.state import Layout
from edge_agent.serving.slots import ModelSlot

if TYPE_CHECKING:
    from edge_agent.inference.session import ModelSession

logger = logging.getLogger(__name__)

PREVIOUS_NEEDS_BYTES = 64 << 20
"""Available memory below which the release before does not stay loaded for the watch."""


def has_room_for_two() -> bool:
    available = read_available_bytes()
    return available is None or available >= PREVIOUS_NEEDS_BYTES


class Sessions:
    def __init__(self, config: Config, layout: Layout, files: FileLayer) -> None:
        self.config = config
        self.layout = layout
        self.files = files
        self.slots: dict[str, ModelSlot] = {}

    def load(self, installer: Installer) -> None:
        """Makes the slots run what the state says; each swaps once its successor is loaded."""
        before = self._running()
        for slug, model in installer.state.models.items():
            slot = self.slots.setdefault(slug, ModelSlot())
            running = slot.session.manifest.digest if slot.session else ""
            if model.current is None:
                slot.swap(None)
            elif model.current.manifest_sha256 != running:
                self._load(installer, slug, slot)
        if self._running() != before:
            self._prune_cache(installer)

    def open(
        self, installer: Installer, slug: str, inference: InferenceConfig | None = None
    ) -> "ModelSession":
        """A session of the model's current release, under `inference` or else the settings.

        Raises:
            InferenceError: there is none, or the runtime refuses it.
            ProviderError: strict, and the requested providers would not run all of it.
            BlobCorruptError: its files are not what was signed; nothing of them was loaded.
        """
        model = installer.state.model(slug)
        if model.current is None:
            raise InferenceError(f"model {slug} has no committed release")
        if not installer.release_store.is_whole(model.current):
            raise BlobCorruptError(f"release {model.current.version} of {slug} is damaged on disk")
        manifest = installer.release_store.load_manifest(model.current.manifest_sha256)
        path = place_files(manifest, self.layout, self.files)
        # numpy and the runtime come with it: an agent without a model does not pay for them.
        from edge_agent.inference.session import ModelSession

        session = ModelSession(
            path, manifest, inference or self.config.inference, cache=self.layout.optimised
        )
        guest = manifest.file_of_role("processor")
        if guest is not None:
            from edge_agent.sandbox.compiled import CompiledCache
            from edge_agent.sandbox.processor import open_processor

            module = self.files.read(self.layout.blob(guest.sha256)) or b""
            cache = CompiledCache(self.layout.optimised)
            session.processor = open_processor(session, module, self.config.sandbox, cache)
        return session

    def _running(self) -> set[str]:
        return {slot.session.manifest.digest for slot in self.slots.values() if slot.session}

    def _prune_cache(self, installer: Installer) -> None:
        """Removes what was made for releases that are neither kept, as blobs are, nor running."""
        from edge_agent.inference.loading import prune_cache
        from edge_agent.sandbox.compiled import CompiledCache

        kept = installer.state.kept_manifests() | self._running()
        prune_cache(self.layout.optimised, kept)
        try:
            manifests = [installer.release_store.load_manifest(digest) for digest in kept]
        except BlobCorruptError:
            return  # which modules it uses is not known
        guests = [manifest.file_of_role("processor") for manifest in manifests]
        CompiledCache(self.layout.optimised).prune({guest.sha256 for guest in guests if guest})

    def _load(self, installer: Installer, slug: str, slot: ModelSlot) -> None:
        try:
            before = slot.swap(self.open(installer, slug))
            if installer.state.model(slug).is_watched and has_room_for_two():
                slot.previous = before
            return
        except ProviderError as error:
            slot.refusal = f"{error.code}: {error}"
            logger.error("model %s does not load: %s", slug, error)
            return  # strict mode: no other release would fare better
        except OSError as error:
            # This device's trouble, not the release's; the next sync tries again.
            logger.error("model %s cannot be read: %s", slug, error)
            return
        except BlobCorruptError as error:
            logger.error("%s", error)
            installer.recover(slug)
        except AgentError as error:
            logger.error("model %s does not load: %s", slug, error)
            if not installer.roll_back(slug, code=error.code, detail="does not load"):
                return
        try:
            slot.swap(self.open(installer, slug))
        except (AgentError, OSError) as error:
            logger.error("model %s: its fallback does not load: %s", slug, error)
