"""Brings the trusted metadata up to date: fetches, stores, and hands the rules what came."""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from edge_agent.exceptions import PublishedError, TrustDocumentError
from edge_agent.files import FileLayer, write_atomic
from edge_agent.tuf.trusted_set import TrustedSet

logger = logging.getLogger(__name__)
MAX_ROOTS = 256
"""Roots followed in one update: a device that missed more catches up in several."""
MAX_BYTES = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000, "targets": 5_000_000}

Fetch = Callable[[str, int], bytes | None]
"""File name and the most bytes to take; None when the server has no such file."""


class TrustUpdater:
    """The trusted metadata below `folder`, by file names without versions.

    Only `root.json` must be there; it was believed at enrolment. What is stored is verified again
    each time it is read.
    """

    def __init__(self, files: FileLayer, folder: Path) -> None:
        self.files = files
        self.folder = folder

    def is_begun(self) -> bool:
        """True once this device has a root."""
        return self.files.size(self.folder / "root.json") is not None

    def begin(self, root: bytes, *, now: datetime) -> None:
        """Stores the first root; it must be signed by enough of its own keys."""
        TrustedSet(root, now=now)
        self._store("root", root)

    def load(self, *, now: datetime) -> TrustedSet:
        """What is stored and still believed at `now`, without asking anybody.

        Raises:
            TrustDocumentError: no root is stored.
            PublishedError: a stored file is damaged.
            TrustExpiredError: something has expired; `refresh` may bring newer.
        """
        trusted = TrustedSet(self._read_root(), now=now)
        for kind, update in (
            ("timestamp", trusted.update_timestamp),
            ("snapshot", trusted.update_snapshot),
            ("targets", trusted.update_targets),
        ):
            data = self._read(kind)
            if data is None:
                raise TrustDocumentError(f"{kind} is not stored yet")
            update(data)
        return trusted

    def refresh(self, fetch: Fetch, *, now: datetime) -> TrustedSet:
        """The newest metadata, stored; each file as soon as it is believed.

        Raises:
            PublishedError: what the server published breaks a rule.
            TransferError: a file could not be fetched.
        """
        trusted = TrustedSet(self._read_root(), now=now)
        for _ in range(MAX_ROOTS):
            data = fetch(f"{trusted.root.version + 1}.root.json", MAX_BYTES["root"])
            if data is None:
                break
            trusted.update_root(data)
            self._store("root", data)
        self._update_timestamp(trusted, fetch)
        self._update_snapshot(trusted, fetch)
        self._update_targets(trusted, fetch)
        return trusted

    def _update_timestamp(self, trusted: TrustedSet, fetch: Fetch) -> None:
        self._load_stored("timestamp", trusted.update_timestamp)
        data = self._fetch(fetch, "timestamp.json", "timestamp")
        if trusted.update_timestamp(data):
            self._store("timestamp", data)

    def _update_snapshot(self, trusted: TrustedSet, fetch: Fetch) -> None:
        def load(data: bytes) -> None:
            trusted.update_snapshot(data, is_stored=True)

        if not self._load_stored("snapshot", load):
            data = self._fetch(fetch, self._name(trusted, "snapshot"), "snapshot")
            trusted.update_snapshot(data)
            self._store("snapshot", data)

    def _update_targets(self, trusted: TrustedSet, fetch: Fetch) -> None:
        if not self._load_stored("targets", trusted.update_targets):
            data = self._fetch(fetch, self._name(trusted, "targets"), "targets")
            trusted.update_targets(data)
            self._store("targets", data)

    def _load_stored(self, kind: str, update: Callable[[bytes], object]) -> bool:
        """True when the stored file is what is wanted; else it has at most told its version."""
        data = self._read(kind)
        if data is None:
            return False
        try:
            update(data)
        except PublishedError as error:
            logger.debug("stored %s is not used: %s", kind, error)
            return False
        return True

    def _name(self, trusted: TrustedSet, kind: str) -> str:
        version = f"{trusted.told_version(kind)}." if trusted.is_consistent_snapshot else ""
        return f"{version}{kind}.json"

    def _fetch(self, fetch: Fetch, name: str, kind: str) -> bytes:
        data = fetch(name, MAX_BYTES[kind])
        if data is None:
            raise TrustDocumentError(f"the server has no {name}")
        return data

    def _read_root(self) -> bytes:
        data = self._read("root")
        if data is None:
            raise TrustDocumentError("no root is stored")
        return data

    def _read(self, kind: str) -> bytes | None:
        return self.files.read(self.folder / f"{kind}.json")

    def _store(self, kind: str, data: bytes) -> None:
        write_atomic(self.files, self.folder / f"{kind}.json", data)
