"""The releases on this device's disk: everything is verified again before it is believed."""

import json
import logging
from collections.abc import Iterable

from edge_agent.exceptions import BlobCorruptError, PublishedError
from edge_agent.files import FileLayer, publish, write_atomic
from edge_agent.releases.factory import find_releases, read_keys, read_manifest
from edge_agent.releases.state import AgentState, Layout, Release
from edge_agent.releases.trust import (
    ASSIGNMENT_TYPE,
    Assignment,
    Manifest,
    TrustKey,
    parse_assignment,
    verify_envelope,
)

logger = logging.getLogger(__name__)


class ReleaseStore:
    """Reads `manifests/`, `assignments/`, `blobs/` and `factory/`."""

    def __init__(
        self,
        files: FileLayer,
        layout: Layout,
        *,
        device_id: str,
        trust_keys: tuple[TrustKey, ...],
    ) -> None:
        self.files = files
        self.layout = layout
        self.device_id = device_id
        self.trust(trust_keys, trust_keys)

    def trust(self, trust_keys: tuple[TrustKey, ...], disk_keys: tuple[TrustKey, ...]) -> None:
        """Believes `trust_keys` from now on, and `disk_keys` for what is on this disk already."""
        self.trust_keys = trust_keys
        # Those of the factory as well; they count for nothing that arrives.
        self.disk_keys = (*disk_keys, *read_keys(self.files, self.layout))

    def load_manifest(self, digest: str) -> Manifest:
        """The stored manifest, verified again: the disk is not trusted more than the network."""
        data = self.files.read(self.layout.manifest(digest))
        if data is None:
            raise BlobCorruptError(f"manifest {digest} is missing")
        try:
            manifest = read_manifest(json.loads(data), self.disk_keys)
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

    def read_assignments(self) -> list[Assignment]:
        """The last assignments acted on that still verify and name this device."""
        found = []
        for name in self.files.list(self.layout.assignments):
            data = self.files.read(self.layout.assignments / name)
            try:
                payload = verify_envelope(
                    json.loads(data or b""),
                    keys=self.trust_keys,
                    payload_type=ASSIGNMENT_TYPE,
                    role="assignment",
                )
                assignment = parse_assignment(payload)
            except (ValueError, PublishedError) as error:
                logger.error("stored assignment %s: %s", name, error)
                continue
            if assignment.device_id == self.device_id:
                found.append(assignment)
        return found

    def read_signers(self, slug: str) -> set[str]:
        """Ids of the keys named by the last assignment acted on; none where it cannot be read."""
        data = self.files.read(self.layout.assignment(slug))
        try:
            return {str(row["keyid"]) for row in json.loads(data or b"")["signatures"]}
        except (ValueError, TypeError, KeyError, RecursionError):
            return set()

    def whole_manifests(self) -> list[Manifest]:
        """The manifests of every release that is here entirely."""
        names = [name for name in self.files.list(self.layout.manifests) if name.endswith(".json")]
        digests = [name.removesuffix(".json") for name in names]
        return [self.load_manifest(digest) for digest in digests if self.is_whole(Release(digest))]

    def first_whole(self, digests: Iterable[str]) -> Release | None:
        for digest in digests:
            if self.is_whole(Release(digest)):
                manifest = self.load_manifest(digest)
                return Release(digest, "", manifest.version, manifest.variant)
        return None

    def factory_models(self) -> list[str]:
        return sorted(find_releases(self.files, self.layout, self.disk_keys))

    def take_factory_release(self, slug: str, *, barred: Iterable[str]) -> Release | None:
        """The release shipped with the device, copied to where releases run from.

        Args:
            barred: manifest digests that must not run.
        """
        found = find_releases(self.files, self.layout, self.disk_keys).get(slug)
        if found is None or found[0].digest in barred:
            return None
        manifest, envelope = found
        for file in manifest.files:
            blob, part = self.layout.blob(file.sha256), self.layout.part(file.sha256)
            if self.files.digest(blob) == file.sha256:
                continue
            source = self.layout.factory / file.sha256
            if self.files.digest(source) != file.sha256:
                logger.error("factory release of %s: %s is damaged", slug, file.path)
                return None
            self.files.copy_file(source, part)
            publish(self.files, part, blob)
        write_atomic(self.files, self.layout.manifest(manifest.digest), envelope)
        logger.error("model %s: falling back to factory release %s", slug, manifest.version)
        return Release(manifest.digest, "", manifest.version, manifest.variant)

    def drop_damaged(self, release: Release) -> None:
        """Removes the files of `release` that are not what was signed, to make room."""
        try:
            manifest = self.load_manifest(release.manifest_sha256)
        except BlobCorruptError:
            return
        for file in manifest.files:
            path = self.layout.blob(file.sha256)
            if self.files.digest(path) not in (None, file.sha256):
                self.files.unlink(path)

    def sweep(self, state: AgentState) -> None:
        """Removes blobs, parts and manifests that no release of `state` names."""
        blobs: set[str] = set()
        manifests = state.kept_manifests()
        for digest in manifests:
            try:
                blobs |= {file.sha256 for file in self.load_manifest(digest).files}
            except BlobCorruptError:
                return
        for name in self.files.list(self.layout.blobs):
            if name not in blobs:
                self.files.unlink(self.layout.blobs / name)
        for name in self.files.list(self.layout.manifests):
            if name.removesuffix(".json") not in manifests:
                self.files.unlink(self.layout.manifests / name)
        for name in self.files.list(self.layout.parts):
            if name.partition(".")[0] in blobs:
                self.files.unlink(self.layout.parts / name)
