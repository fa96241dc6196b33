"""The file operations whose order makes an install survive a power cut.

Everything durable goes through `FileLayer`, so that a test can put a layer in its place which
forgets what was not synced. The rules are those of POSIX at its worst: data may be lost until
`fsync`, a name may be lost (or survive without its data) until `fsync_dir` of its folder.
"""

import hashlib
import os
from pathlib import Path
from typing import Protocol


class FileLayer(Protocol):
    def read(self, path: Path) -> bytes | None: ...
    def size(self, path: Path) -> int | None: ...
    def digest(self, path: Path) -> str | None: ...
    def write(self, path: Path, data: bytes) -> None: ...
    def append(self, path: Path, data: bytes) -> None: ...
    def fsync(self, path: Path) -> None: ...
    def fsync_dir(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def list(self, path: Path) -> list[str]: ...
    def make_dirs(self, path: Path) -> None: ...
    def free_bytes(self, path: Path) -> int: ...


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
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(data)

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(data)

    def fsync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
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

    def make_dirs(self, path: Path) -> None:
        if path.is_dir():
            return
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        for folder in (path, path.parent):
            self.fsync_dir(folder)

    def free_bytes(self, path: Path) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


def write_atomic(files: FileLayer, path: Path, data: bytes) -> None:
    """After the return `path` holds `data` whatever happens; before it, the old content or `data`.

    The file's sync comes before the rename, or the name could survive with no data behind it; the
    folder's sync comes last, or the caller could act on a change that a power cut undoes.
    """
    temporary = path.with_name(path.name + ".tmp")
    files.write(temporary, data)
    files.fsync(temporary)
    files.rename(temporary, path)
    files.fsync_dir(path.parent)
