"""The file operations whose order makes an install survive a power cut.

Everything durable goes through `FileLayer`, so that a test can put a layer in its place which
forgets what was not synced. The rules are those of POSIX at its worst: data may be lost until
`fsync`, a name may be lost (or survive without its data) until `fsync_dir` of its folder.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edge_agent.exceptions import DiskFullError

# No space, no quota, or past the largest size this process may write.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
WRITE_OUT_BYTES = 8 << 20
"""A file that grows is handed to the disk in steps of so much; asking for each piece costs more."""


class FileLayer(Protocol):
    def read(self, path: Path) -> bytes | None: ...
    def size(self, path: Path) -> int | None: ...
    def digest(self, path: Path) -> str | None: ...
    def write(self, path: Path, data: bytes) -> None: ...
    def append(self, path: Path, data: bytes) -> None: ...
    def copy_file(self, source: Path, target: Path) -> None: ...
    def fsync(self, path: Path) -> None: ...
    def fsync_dir(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def list(self, path: Path) -> list[str]: ...
    def is_dir(self, path: Path) -> bool: ...
    def make_dir(self, path: Path) -> None: ...
    def free_bytes(self, path: Path) -> int: ...


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Makes the errors that mean "no space" a `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(f"{path.name}: {os.strerror(error.errno)}") from error
        raise


class DiskFiles:
    """The real thing."""

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def size(self, path: Path) -> int | None:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def digest(self, path: Path) -> str | None:
        try:
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with naming_full_disk(path), open(descriptor, "wb") as stream:
            stream.write(data)

    def append(self, path: Path, data: bytes) -> None:
        # Without the layers of `open`, for each piece of a download comes through here.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with naming_full_disk(path):
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                begin_write_out(descriptor, len(data))
        finally:
            os.close(descriptor)

    def copy_file(self, source: Path, target: Path) -> None:
        with naming_full_disk(target):
            shutil.copyfile(source, target)

    def fsync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with naming_full_disk(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def fsync_dir(self, path: Path) -> None:
        self.fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def list(self, path: Path) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    def make_dir(self, path: Path) -> None:
        with naming_full_disk(path):
            path.mkdir(mode=0o700, exist_ok=True)

    def free_bytes(self, path: Path) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


def begin_write_out(descriptor: int, added: int) -> None:
    """Has Linux write a growing file's last whole step, so that the sync at the end of a large one
    finds little left to do: the disk works while the network does."""
    if hasattr(os, "posix_fadvise"):
        size = os.fstat(descriptor).st_size
        start = (size - added) // WRITE_OUT_BYTES * WRITE_OUT_BYTES
        end = size // WRITE_OUT_BYTES * WRITE_OUT_BYTES
        if end > start:
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


def make_dirs(files: FileLayer, path: Path) -> None:
    """Makes the folder and those above it; an unsynced name takes what it holds with it."""
    if files.is_dir(path):
        return
    make_dirs(files, path.parent)
    files.make_dir(path)
    files.fsync_dir(path.parent)


def publish(files: FileLayer, source: Path, target: Path) -> None:
    """Gives the written file `source` the name `target`, durably.

    The file's sync comes before the rename, or the name could survive with no data behind it; the
    folder's sync comes last, or the caller could act on a change that a power cut undoes.
    """
    files.fsync(source)
    files.rename(source, target)
    files.fsync_dir(target.parent)


def write_atomic(files: FileLayer, path: Path, data: bytes) -> None:
    """After the return `path` holds `data` whatever happens; until then the old data, or `data`."""
    temporary = path.with_name(path.name + ".tmp")
    files.write(temporary, data)
    publish(files, temporary, path)
