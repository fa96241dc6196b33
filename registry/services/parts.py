"""Where the parts of an upload lie: in the object store, or in files of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from django.core.files.storage import FileSystemStorage, default_storage

from registry.services.blobs import CHUNK_BYTES, Readable, staging_folder


class PartStore(Protocol):
    """What an upload in parts needs; `key` names it and `store_id` is the store's name of it."""

    def begin(self, key: str) -> str:
        """The store's name of a new upload."""

    def address(self, key: str, store_id: str, number: int, ttl_seconds: int) -> str | None:
        """Where the bytes of a part are put; None for this server."""

    def sizes(self, key: str, store_id: str) -> dict[int, int]:
        """Number of each part that has arrived whole to its bytes."""

    def is_joined(self, key: str) -> bool:
        """Whether an earlier call joined the parts, after which none is listed."""

    def open_joined(self, key: str, store_id: str) -> Any:
        """A context with all the parts as one stream."""

    def move(self, key: str, name: str) -> None:
        """Brings what `open_joined` has read under its lasting name."""

    def drop(self, key: str, store_id: str) -> None:
        """Forgets it all."""


def part_store() -> PartStore:
    """That of the storage in use."""
    if isinstance(default_storage, FileSystemStorage) or not hasattr(
        default_storage, "begin_parts"
    ):
        return FileParts()
    return ObjectParts(default_storage)


class ObjectParts:
    """Parts that clients put straight into the object store."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def begin(self, key: str) -> str:
        return str(self._storage.begin_parts(_object(key)))

    def address(self, key: str, store_id: str, number: int, ttl_seconds: int) -> str | None:
        return str(self._storage.part_url(_object(key), store_id, number, ttl_seconds))

    def sizes(self, key: str, store_id: str) -> dict[int, int]:
        found = self._storage.list_parts(_object(key), store_id)
        return {number: size for number, (size, _) in found.items()}

    def is_joined(self, key: str) -> bool:
        return bool(self._storage.exists(_object(key)))

    @contextmanager
    def open_joined(self, key: str, store_id: str) -> Iterator[Readable]:
        if not self.is_joined(key):
            self._storage.join_parts(_object(key), store_id)
        with self._storage.open(_object(key), "rb") as stream:
            yield stream

    def move(self, key: str, name: str) -> None:
        self._storage.copy(_object(key), name)

    def drop(self, key: str, store_id: str) -> None:
        self._storage.drop_parts(_object(key), store_id)
        self._storage.delete(_object(key))


class FileParts:
    """Parts that clients put to this server, each a file; a part is there whole or not at all."""

    def begin(self, key: str) -> str:
        self._folder(key).mkdir(mode=0o700, exist_ok=True)
        return ""

    def address(self, key: str, store_id: str, number: int, ttl_seconds: int) -> str | None:
        return None

    def sizes(self, key: str, store_id: str) -> dict[int, int]:
        folder = self._folder(key)
        if not folder.is_dir():
            return {}
        return {int(path.name): path.stat().st_size for path in folder.glob("[0-9]*")}

    def write(self, key: str, number: int, stream: Readable, size: int) -> int:
        """How many bytes arrived; the part is kept only when they are `size`."""
        folder = self._folder(key)
        folder.mkdir(mode=0o700, exist_ok=True)
        arriving = folder / f"arriving-{number}-{os.getpid()}-{id(stream)}"
        written = 0
        try:
            with arriving.open("xb") as handle:
                while chunk := stream.read(min(CHUNK_BYTES, size + 1 - written)):
                    written += len(chunk)
                    handle.write(chunk)
                    if written > size:
                        break
            if written == size:
                os.replace(arriving, folder / str(number))
        finally:
            arriving.unlink(missing_ok=True)
        return written

    def is_joined(self, key: str) -> bool:
        return False

    @contextmanager
    def open_joined(self, key: str, store_id: str) -> Iterator[Readable]:
        with _Chain(sorted(self._folder(key).glob("[0-9]*"), key=lambda p: int(p.name))) as chain:
            yield chain

    def move(self, key: str, name: str) -> None:
        final = Path(default_storage.path(name))
        final.parent.mkdir(parents=True, exist_ok=True)
        joined = self._folder(key) / "joined"
        with self.open_joined(key, "") as source, joined.open("wb") as handle:
            while chunk := source.read(CHUNK_BYTES):
                handle.write(chunk)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(joined, final)

    def drop(self, key: str, store_id: str) -> None:
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return staging_folder() / f"upload-{key}"


class _Chain:
    """Files read one after the other."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._open: IO[bytes] | None = None

    def __enter__(self) -> _Chain:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._open is not None:
            self._open.close()

    def read(self, n: int = -1, /) -> bytes:
        while True:
            if self._open is None:
                if not self._paths:
                    return b""
                self._open = self._paths.pop(0).open("rb")
            if chunk := self._open.read(n):
                return chunk
            self._open.close()
            self._open = None


def _object(key: str) -> str:
    return f"uploads/{key}"
