"""What a store of online private keys does, and the one that keeps them in files.

`<role>.key` holds the base64 of a 32-byte Ed25519 seed (mode 0600) and is made at first use.
`<role>.next.key` is a key that devices are told of but that does not sign yet.
`retired/<role>-*.pub` hold base64 public keys that devices go on trusting after a rotation.
"""

import base64
import os
import secrets
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from nacl.signing import SigningKey

from registry.signer.policy import ROLES


class KeyStoreError(Exception):
    """A store cannot do what was asked; the message names the key and says why."""


class KeyStore(Protocol):
    """Where the online private keys are. Keys are Ed25519: the agent has no library for others."""

    def active_key(self, role: str) -> bytes:
        """The 32 raw bytes of the public key that signs for `role` now."""
        ...

    def known_keys(self, role: str) -> list[bytes]:
        """The active key first, then those that devices should know as well."""
        ...

    def sign(self, role: str, message: bytes) -> bytes:
        """64 bytes by the active key of `role`."""
        ...


@runtime_checkable
class RotatingKeyStore(KeyStore, Protocol):
    """A store whose keys `python -m registry.signer` makes and replaces."""

    def make_key(self, role: str) -> bytes:
        """Makes the active key of `role` unless there is one; its public key."""
        ...

    def prepare_rotation(self, role: str) -> bytes:
        """Makes the next key of `role` unless there is one; its public key.

        It signs nothing until `finish_rotation`: first the new targets metadata must name it.
        """
        ...

    def finish_rotation(self, role: str, *, is_revoked: bool = False) -> None:
        """Lets the next key sign; the last one is retired, or with `is_revoked` forgotten.

        Raises:
            KeyStoreError: no rotation was prepared.
        """
        ...


class FileKeyStore:
    """Keys in a folder that only the signing service's user may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, tuple[tuple[int, int], SigningKey]] = {}

    def active_key(self, role: str) -> bytes:
        return bytes(self._signing_key(role).verify_key)

    def known_keys(self, role: str) -> list[bytes]:
        found = [self.active_key(role)]
        following = self.folder / f"{role}.next.key"
        if following.exists():
            found.append(bytes(SigningKey(read_key(following)).verify_key))
        return list(dict.fromkeys(found + retired_keys(self.folder, role)))

    def sign(self, role: str, message: bytes) -> bytes:
        return self._signing_key(role).sign(message).signature

    def make_key(self, role: str) -> bytes:
        return self.active_key(role)

    def prepare_rotation(self, role: str) -> bytes:
        path = self.folder / f"{checked_role(role)}.next.key"
        if not path.exists():
            create_key(path)
        return bytes(SigningKey(read_key(path)).verify_key)

    def finish_rotation(self, role: str, *, is_revoked: bool = False) -> None:
        following = self.folder / f"{checked_role(role)}.next.key"
        if not following.exists():
            raise KeyStoreError(f"{following} does not exist: prepare the rotation first")
        if not is_revoked:
            retire_key(self.folder, role, self.active_key(role))
        following.replace(self.folder / f"{role}.key")

    def _signing_key(self, role: str) -> SigningKey:
        path = self.folder / f"{checked_role(role)}.key"
        if not path.exists():
            create_key(path)
        stat = path.stat()
        mark = (stat.st_ino, stat.st_mtime_ns)
        known = self._loaded.get(role)
        if known is None or known[0] != mark:
            # A rotation puts another file in its place while this process runs.
            known = self._loaded[role] = (mark, SigningKey(read_key(path)))
        return known[1]


def checked_role(role: str) -> str:
    """`role`, which becomes a part of names of files and labels."""
    if role not in ROLES:
        raise ValueError(f"role is one of {ROLES}; got {role!r}")
    return role


def retired_keys(folder: Path, role: str) -> list[bytes]:
    """The public keys of `role` that devices go on trusting, the oldest first."""
    return [read_key(path) for path in sorted((folder / "retired").glob(f"{role}-*.pub"))]


def retire_key(folder: Path, role: str, public_key: bytes) -> None:
    """Notes a public key that signs no more and is trusted until its file is removed."""
    retired = folder / "retired"
    retired.mkdir(mode=0o700, exist_ok=True)
    path = retired / f"{role}-{time.time_ns()}.pub"
    path.write_bytes(base64.b64encode(public_key) + b"\n")


def create_key(path: Path) -> None:
    """A new seed in the file `path`, unless there is one."""
    create_file(path, base64.b64encode(bytes(SigningKey.generate())) + b"\n")


def create_file(path: Path, content: bytes) -> bool:
    """Writes beside the path and links it there: of two starters one is first, and told so."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.link(staged, path)
    except FileExistsError:
        return False
    finally:
        staged.unlink()
    return True


def read_key(path: Path) -> bytes:
    """The 32 bytes in a key file.

    Raises:
        KeyStoreError: it cannot be read, or holds something else.
    """
    try:
        raw = base64.b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, ValueError) as error:
        raise KeyStoreError(f"The key {path} cannot be read: {error}") from error
    if len(raw) != 32:
        raise KeyStoreError(f"The key {path} has {len(raw)} bytes, expected 32")
    return raw
