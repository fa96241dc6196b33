"""Private keys in files, for the signing service alone.

`<role>.key` holds the base64 of a 32-byte Ed25519 seed (mode 0600) and is made at first use.
`<role>.next.key` is a key that devices are told of but that does not sign yet.
`retired/<role>-*.pub` hold base64 public keys that devices go on trusting after a rotation.
"""

import base64
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from nacl.signing import SigningKey

from registry.signer.policy import ROLES


class KeyFileError(Exception):
    """A key cannot be read; the message names the file."""


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
        found += [read_key(path) for path in sorted(self._retired.glob(f"{role}-*.pub"))]
        return list(dict.fromkeys(found))

    def sign(self, role: str, message: bytes) -> bytes:
        return self._signing_key(role).sign(message).signature

    def prepare_rotation(self, role: str) -> bytes:
        """Makes the next key of `role` unless there is one; its public key.

        It signs nothing until `finish_rotation`: first the new targets metadata must name it.
        """
        path = self.folder / f"{self._checked(role)}.next.key"
        if not path.exists():
            create_key(path)
        return bytes(SigningKey(read_key(path)).verify_key)

    def finish_rotation(self, role: str, *, is_revoked: bool = False) -> None:
        """Lets the next key sign; the last one is retired, or with `is_revoked` forgotten.

        Raises:
            KeyFileError: no rotation was prepared.
        """
        following = self.folder / f"{self._checked(role)}.next.key"
        if not following.exists():
            raise KeyFileError(f"{following} does not exist: prepare the rotation first")
        if not is_revoked:
            self._retired.mkdir(mode=0o700, exist_ok=True)
            public = self._retired / f"{role}-{time.time_ns()}.pub"
            public.write_bytes(base64.b64encode(self.active_key(role)) + b"\n")
        following.replace(self.folder / f"{role}.key")

    @property
    def _retired(self) -> Path:
        return self.folder / "retired"

    def _checked(self, role: str) -> str:
        if role not in ROLES:
            raise ValueError(f"role is one of {ROLES}; got {role!r}")
        return role

    def _signing_key(self, role: str) -> SigningKey:
        path = self.folder / f"{self._checked(role)}.key"
        if not path.exists():
            create_key(path)
        stat = path.stat()
        mark = (stat.st_ino, stat.st_mtime_ns)
        known = self._loaded.get(role)
        if known is None or known[0] != mark:
            # A rotation puts another file in its place while this process runs.
            known = self._loaded[role] = (mark, SigningKey(read_key(path)))
        return known[1]


def create_key(path: Path) -> None:
    """Writes a new seed beside the path and links it there: two starters end with one key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(base64.b64encode(bytes(SigningKey.generate())) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        with suppress(FileExistsError):
            os.link(staged, path)
    finally:
        staged.unlink()


def read_key(path: Path) -> bytes:
    """The 32 bytes in a key file.

    Raises:
        KeyFileError: it cannot be read, or holds something else.
    """
    try:
        raw = base64.b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"The key {path} cannot be read: {error}") from error
    if len(raw) != 32:
        raise KeyFileError(f"The key {path} has {len(raw)} bytes, expected 32")
    return raw
