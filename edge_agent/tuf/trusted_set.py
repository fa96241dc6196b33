"""The order in which metadata is believed: section 5 of the TUF specification, without I/O.

1. Root. Each next one has the next version, and is signed by enough keys of the last *and* of its
   own. Only the last one must not have expired.
2. Timestamp. Signed by the root's key; its version and the snapshot's never fall.
3. Snapshot. The version (and length and hashes, where given) the timestamp names; no file it once
   named goes missing or falls in version.
4. Targets. The version the snapshot names. It delegates to `manifests` and `assignments`.

Expired or outdated metadata can be loaded, for it still guards against older versions; what follows
it cannot. One time is used for the whole update.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from edge_agent.exceptions import TrustDocumentError, TrustExpiredError, TrustRollbackError
from edge_agent.tuf.metadata import (
    RoleKeys,
    Signed,
    parse_signed,
    read_delegations,
    read_meta,
    read_root_roles,
    verify_threshold,
)


class TrustedSet:
    """What is believed so far. Made with a root that is believed already.

    Args:
        now: the time by which metadata expires, in UTC.

    Raises:
        PublishedError: the root is malformed or not signed by enough of its own keys.
    """

    def __init__(self, root: bytes, *, now: datetime) -> None:
        self.now = now
        self.root = parse_signed(root, "root")
        self._roles = read_root_roles(self.root)
        verify_threshold(self.root, self._roles["root"])
        self.timestamp: Signed | None = None
        self.snapshot: Signed | None = None
        self.targets: Signed | None = None

    @property
    def is_consistent_snapshot(self) -> bool:
        """File names carry their version."""
        return self.root.document.get("consistent_snapshot") is True

    def update_root(self, data: bytes) -> None:
        """Believes the next root (5.3)."""
        following = parse_signed(data, "root")
        if following.version != self.root.version + 1:
            raise TrustRollbackError(
                f"root: expected version {self.root.version + 1}, got {following.version}"
            )
        roles = read_root_roles(following)
        verify_threshold(following, self._roles["root"])
        verify_threshold(following, roles["root"])
        self.root, self._roles = following, roles

    def update_timestamp(self, data: bytes) -> bool:
        """Believes a timestamp (5.4); False when it says nothing new."""
        self._check_fresh(self.root)
        new = self._verified(data, "timestamp")
        told = self._snapshot_told(new)
        if self.timestamp is not None:
            if new.version < self.timestamp.version:
                raise TrustRollbackError(
                    f"timestamp: version {new.version} after {self.timestamp.version}"
                )
            if new.version == self.timestamp.version:
                self._check_fresh(self.timestamp)
                return False
            known = self._snapshot_told(self.timestamp)
            if told["version"] < known["version"]:
                raise TrustRollbackError(
                    f"snapshot: version {told['version']} after {known['version']} was told"
                )
        self.timestamp = new
        self._check_fresh(new)
        return True

    def update_snapshot(self, data: bytes, *, is_stored: bool = False) -> None:
        """Believes a snapshot (5.5); one that was stored may be older than the timestamp names."""
        assert self.timestamp is not None
        self._check_fresh(self.timestamp)
        told = self._snapshot_told(self.timestamp)
        if not is_stored:
            _check_bytes(data, told, "snapshot")
        new = self._verified(data, "snapshot")
        meta = read_meta(new)
        if "targets.json" not in meta:
            raise TrustDocumentError("snapshot: targets.json is not named")
        if self.snapshot is not None:
            for name, row in read_meta(self.snapshot).items():
                if name not in meta:
                    raise TrustRollbackError(f"snapshot: {name} is no longer named")
                if meta[name]["version"] < row["version"]:
                    raise TrustRollbackError(
                        f"snapshot: {name} falls from {row['version']} to {meta[name]['version']}"
                    )
        self.snapshot = new
        self._check_snapshot()

    def update_targets(self, data: bytes) -> None:
        """Believes a targets file (5.6)."""
        assert self.snapshot is not None
        self._check_snapshot()
        told = read_meta(self.snapshot)["targets.json"]
        _check_bytes(data, told, "targets")
        new = self._verified(data, "targets")
        read_delegations(new)
        if new.version != told["version"]:
            raise TrustRollbackError(
                f"targets: version {new.version}, the snapshot names {told['version']}"
            )
        self._check_fresh(new)
        self.targets = new

    def told_version(self, kind: str) -> int:
        """The version of the snapshot or targets that what comes before it names."""
        return int(self.told(kind)["version"])

    def told(self, kind: str) -> Mapping[str, Any]:
        """What is said of the snapshot or targets: version, and length and hashes if given."""
        if kind == "snapshot":
            assert self.timestamp is not None
            return self._snapshot_told(self.timestamp)
        assert self.snapshot is not None
        return read_meta(self.snapshot)["targets.json"]

    def read_role(self, name: str) -> RoleKeys | None:
        """Who may speak for a delegated role; None when nobody may."""
        return read_delegations(self.targets).get(name) if self.targets else None

    def _verified(self, data: bytes, kind: str) -> Signed:
        signed = parse_signed(data, kind)
        verify_threshold(signed, self._roles[kind])
        return signed

    def _snapshot_told(self, timestamp: Signed) -> dict[str, Any]:
        meta = read_meta(timestamp)
        if set(meta) != {"snapshot.json"}:
            raise TrustDocumentError(f"timestamp: expected snapshot.json, got {sorted(meta)}")
        return meta["snapshot.json"]

    def _check_snapshot(self) -> None:
        assert self.snapshot is not None
        told = self.told_version("snapshot")
        if self.snapshot.version != told:
            raise TrustRollbackError(
                f"snapshot: version {self.snapshot.version}, the timestamp names {told}"
            )
        self._check_fresh(self.snapshot)

    def _check_fresh(self, signed: Signed) -> None:
        if self.now >= signed.expires:
            raise TrustExpiredError(
                f"{signed.kind} {signed.version} expired at {signed.expires.isoformat()},"
                f" time is {self.now.isoformat()}"
            )


def _check_bytes(data: bytes, told: Mapping[str, Any], kind: str) -> None:
    length = told.get("length")
    if length is not None and len(data) != length:
        raise TrustDocumentError(f"{kind}: expected {length} bytes, got {len(data)}")
    for name, expected in (told.get("hashes") or {}).items():
        if name not in ("sha256", "sha512"):
            raise TrustDocumentError(f"{kind}: unknown hash {name!r}")
        digest = hashlib.new(name, data).hexdigest()
        if digest != expected:
            raise TrustDocumentError(f"{kind}: expected {name} {expected}, got {digest}")
