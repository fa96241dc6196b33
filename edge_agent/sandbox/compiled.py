"""Compiled code of guest modules, kept on this device.

The runtime runs compiled code as it finds it, damaged or forged, so a file counts only with the MAC
that this device's own key gives it: no copy of another device, no flipped bit and no file from the
network passes. Whatever does not pass is compiled anew.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path

logger = logging.getLogger(__name__)

KEY_NAME = "compiled.key"
KEY_BYTES = MAC_BYTES = 32
MAX_BYTES = 64 << 20


class CompiledCache:
    """Files `<module's digest>-<identity's digest>.cwasm` in `folder`: a MAC, then the code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, identity: str) -> Path:
        """`identity` names all that the code depends on, by `|`: the module's digest, then the
        runtime, the settings and the processor."""
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return self.folder / f"{identity.split('|')[0]}-{digest}.cwasm"

    def read(self, identity: str) -> bytes | None:
        """The code, or None when there is none that this device vouches for."""
        try:
            stored = _read_private(self.path(identity))
            key = _read_private(self.folder / KEY_NAME)
        except OSError:
            return None
        code = stored[MAC_BYTES:]
        if len(key) != KEY_BYTES or not hmac.compare_digest(
            stored[:MAC_BYTES], _mac(key, identity, code)
        ):
            logger.warning("compiled guest module is damaged and is compiled anew")
            return None
        return code

    def write(self, identity: str, code: bytes) -> None:
        """Keeps the code; a folder that cannot be written only costs the next start its time."""
        path = self.path(identity)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            mac = _mac(self._key(), identity, code)
            _write_private(temporary, mac + code)
            os.replace(temporary, path)
            self._drop_others(path)
        except OSError as error:
            logger.warning("compiled guest module is not kept: %s", error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def prune(self, modules: Collection[str]) -> None:
        """Removes the code of every module but those with these digests."""
        for path in self.folder.glob("*.cwasm"):
            if path.name[:64] not in modules:
                path.unlink(missing_ok=True)

    def _drop_others(self, path: Path) -> None:
        """Removes code of the same module for another runtime, processor or settings."""
        for other in self.folder.glob(f"{path.name[:64]}-*.cwasm"):
            if other != path:
                other.unlink(missing_ok=True)

    def _key(self) -> bytes:
        path = self.folder / KEY_NAME
        with contextlib.suppress(OSError):
            key = _read_private(path)
            if len(key) == KEY_BYTES:
                return key
        key = secrets.token_bytes(KEY_BYTES)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        _write_private(temporary, key)
        os.replace(temporary, path)
        return key


def _mac(key: bytes, identity: str, code: bytes) -> bytes:
    # The identity too: code of one module under the name of another is no less a forgery.
    name = hashlib.sha256(identity.encode()).digest()
    return hmac.digest(key, name + code, "sha256")


def _read_private(path: Path) -> bytes:
    """The bytes of a regular file that this user owns and nobody else can touch."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not is_ours or status.st_mode & 0o077 or status.st_size > MAX_BYTES:
            raise PermissionError(f"{path} is not a private file of this user")
        return stream.read()


def _write_private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(data)
