"""Trust metadata as python-tuf makes and checks it: values in, values out; no database, no key.

Two roles are offline: `root` names the keys of all top-level roles, `targets` delegates to the
online keys of manifests and assignments. Snapshot and timestamp are online. Below `targets`:

- `manifests` may speak of `manifests/*`; it spreads its list over `2 ** BIN_BITS` bins, so that a
  new release rewrites one small file however many there are;
- `assignments` may speak of `assignments/*`. It has no file of its own: an assignment is a document
  for one device, and this delegation says whose signature a device believes on it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from securesystemslib.signer import SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signature,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from registry.exceptions import TrustMetadataError
from registry.signing import key_id

BIN_BITS = 6
BIN_PREFIX = "manifests-bin"
OFFLINE_ROLES = ("root", "targets")
ONLINE_ROLES = ("snapshot", "timestamp")
LIFETIMES = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "manifests": timedelta(days=365),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}
DELEGATED = {"manifests": "manifest", "assignments": "assignment"}
"""Delegated role to the signing service's role."""

SignMessage = Callable[[bytes], tuple[bytes, bytes]]


def make_key(public_key: bytes) -> Key:
    """The TUF key of 32 raw bytes; its id is the one that envelopes use."""
    return SSlibKey(key_id(public_key), "ed25519", "ed25519", {"public": public_key.hex()})


def make_root(
    previous: Root | None,
    *,
    keys: Mapping[str, Iterable[bytes]],
    thresholds: Mapping[str, int],
    now: datetime,
) -> Metadata[Root]:
    """An unsigned root, the next after `previous`.

    Args:
        keys: role (`root`, `targets`, `snapshot`, `timestamp`) to its public keys.
        thresholds: role to how many of them must sign; 1 where nothing is said.
    """
    version = previous.version + 1 if previous else 1
    rows = {role: [make_key(public) for public in publics] for role, publics in keys.items()}
    for role, found in rows.items():
        needed = thresholds.get(role, 1)
        if not 1 <= needed <= len(found):
            raise TrustMetadataError(
                f"{role}: expected a threshold of 1 to {len(found)} keys; got {needed}"
            )
    return Metadata(
        Root(
            version=version,
            expires=_end("root", now),
            keys={key.keyid: key for found in rows.values() for key in found},
            roles={
                role: Role([key.keyid for key in found], thresholds.get(role, 1))
                for role, found in rows.items()
            },
            consistent_snapshot=True,
        )
    )


def make_targets(
    version: int, *, delegated: Mapping[str, Iterable[bytes]], now: datetime
) -> Metadata[Targets]:
    """An unsigned targets file that delegates to the keys of manifests and assignments."""
    rows = {role: [make_key(public) for public in publics] for role, publics in delegated.items()}
    return Metadata(
        Targets(
            version=version,
            expires=_end("targets", now),
            delegations=Delegations(
                keys={key.keyid: key for found in rows.values() for key in found},
                roles={
                    role: DelegatedRole(
                        role, [key.keyid for key in found], 1, terminating=True, paths=[f"{role}/*"]
                    )
                    for role, found in rows.items()
                },
            ),
        )
    )


def make_manifests(version: int, public_keys: Iterable[bytes], now: datetime) -> Metadata[Targets]:
    """The unsigned list of lists: bins by the hash of a target's name, with the same keys."""
    keys = [make_key(public) for public in public_keys]
    return Metadata(
        Targets(
            version=version,
            expires=_end("manifests", now),
            delegations=Delegations(
                keys={key.keyid: key for key in keys},
                succinct_roles=SuccinctRoles([key.keyid for key in keys], 1, BIN_BITS, BIN_PREFIX),
            ),
        )
    )


def bin_names() -> list[str]:
    """Names of all bins, in order."""
    return list(SuccinctRoles([], 1, BIN_BITS, BIN_PREFIX).get_roles())


def bin_of(target: str) -> str:
    """The bin that lists a target."""
    return SuccinctRoles([], 1, BIN_BITS, BIN_PREFIX).get_role_for_target(target)


def target_name(manifest_sha256: str) -> str:
    """What a release's manifest is called as a TUF target."""
    return f"manifests/{manifest_sha256}.json"


def make_bin(version: int, manifests: Mapping[str, int], now: datetime) -> Metadata[Targets]:
    """An unsigned bin: the digests of manifests, with their sizes in bytes."""
    return Metadata(
        Targets(
            version=version,
            expires=_end("manifests", now),
            targets={
                target_name(digest): TargetFile(size, {"sha256": digest}, target_name(digest))
                for digest, size in manifests.items()
            },
        )
    )


def read_bin(data: bytes) -> dict[str, int]:
    """The digests of the manifests that a bin lists, with their sizes in bytes."""
    signed = decode(data).signed
    assert isinstance(signed, Targets)
    return {target.hashes["sha256"]: target.length for target in signed.targets.values()}


def make_snapshot(version: int, versions: Mapping[str, int], now: datetime) -> Metadata[Snapshot]:
    """An unsigned snapshot of the versions of targets and all that it delegates to."""
    meta = {f"{role}.json": MetaFile(number) for role, number in versions.items()}
    return Metadata(Snapshot(version=version, expires=_end("snapshot", now), meta=meta))


def read_snapshot(data: bytes) -> dict[str, int]:
    """Role to the version that a snapshot names."""
    signed = decode(data).signed
    assert isinstance(signed, Snapshot)
    return {name.removesuffix(".json"): row.version for name, row in signed.meta.items()}


def make_timestamp(version: int, snapshot_version: int, now: datetime) -> Metadata[Timestamp]:
    """An unsigned timestamp of a snapshot."""
    return Metadata(
        Timestamp(
            version=version,
            expires=_end("timestamp", now),
            snapshot_meta=MetaFile(snapshot_version),
        )
    )


def add_signature(metadata: Metadata, sign: SignMessage) -> None:
    """Adds one signature; one by the same key is replaced."""
    public_key, signature = sign(metadata.signed_bytes)
    keyid = key_id(public_key)
    metadata.signatures[keyid] = Signature(keyid, signature.hex())


def encode(metadata: Metadata) -> bytes:
    """The bytes of the file, as python-tuf reads them back."""
    return metadata.to_bytes(JSONSerializer(compact=True))


def decode(data: bytes) -> Metadata:
    """The metadata in `data`.

    Raises:
        TrustMetadataError: it is none.
    """
    try:
        return Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise TrustMetadataError(f"The file is no TUF metadata: {error}") from error


def check_root(root: Metadata[Root], previous: Metadata[Root] | None) -> None:
    """Returns when devices that believe `previous` will believe `root`.

    Raises:
        TrustMetadataError: a wrong version, or too few signatures by the old or by the new keys.
    """
    expected = previous.signed.version + 1 if previous else 1
    if root.signed.version != expected:
        raise TrustMetadataError(f"Expected root {expected}; got {root.signed.version}")
    try:
        if previous is not None:
            previous.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError) as error:
        raise TrustMetadataError(f"Root {root.signed.version}: {error}") from error


def check_targets(targets: Metadata[Targets], root: Root, previous_version: int) -> None:
    """Returns when devices that believe `root` will believe `targets`.

    Raises:
        TrustMetadataError: a wrong version, too few signatures, or a delegation is missing.
    """
    if targets.signed.version != previous_version + 1:
        raise TrustMetadataError(
            f"Expected targets {previous_version + 1}; got {targets.signed.version}"
        )
    delegations = targets.signed.delegations
    missing = set(DELEGATED) - set((delegations.roles if delegations else None) or {})
    if missing:
        raise TrustMetadataError(f"Targets delegate to no {', '.join(sorted(missing))}")
    try:
        root.verify_delegate("targets", targets.signed_bytes, targets.signatures)
    except (RepositoryError, ValueError) as error:
        raise TrustMetadataError(f"Targets {targets.signed.version}: {error}") from error


def role_keys(root: Root, role: str) -> list[bytes]:
    """The public keys that a root names for a top-level role."""
    return [bytes.fromhex(root.keys[keyid].keyval["public"]) for keyid in root.roles[role].keyids]


def delegated_keys(targets: Targets, role: str) -> Sequence[bytes]:
    """The public keys to which `targets` delegates `role`."""
    delegations = targets.delegations
    if delegations is None or not delegations.roles or role not in delegations.roles:
        return []
    return [
        bytes.fromhex(delegations.keys[keyid].keyval["public"])
        for keyid in delegations.roles[role].keyids
    ]


def _end(role: str, now: datetime) -> datetime:
    return (now + LIFETIMES[role]).replace(microsecond=0)
