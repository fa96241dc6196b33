"""Files of a version down to a folder: resumed, and believed only with the right digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import urllib3

from aviary_client.errors import DigestError, TransferError
from aviary_client.rows import File
from aviary_client.transport import Transport
from aviary_client.uploads import CHUNK_BYTES, hash_file

Progress = Callable[[int, int], None]


def download_files(
    transport: Transport,
    files: Iterable[File],
    folder: Path,
    progress: Progress = lambda done, whole: None,
) -> list[Path]:
    """The files in `folder`, each whole; those that are there already are left.

    Raises:
        DigestError: other bytes arrived, or a path leads out of the folder; the file is not there.
        TransferError: the store did not answer.
    """
    wanted = list(files)
    whole, done, found = sum(file["size_bytes"] for file in wanted), 0, []
    for file in wanted:
        target = folder.joinpath(*_parts(file["path"]))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.is_file() and hash_file(target) == (file["sha256"], file["size_bytes"])):
            before = done
            _download(transport, file, target, lambda n, at=before: progress(at + n, whole))  # type: ignore[misc]
        done += file["size_bytes"]
        progress(done, whole)
        found.append(target)
    return found


def _download(
    transport: Transport, file: File, target: Path, progress: Callable[[int], None]
) -> None:
    partial = target.with_name(f"{target.name}.{file['sha256'][:12]}.part")
    digest, size = hashlib.sha256(), 0
    if partial.is_file() and partial.stat().st_size < file["size_bytes"]:
        with partial.open("rb") as handle:
            while chunk := handle.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    headers = {"Range": f"bytes={size}-"} if size else {}
    try:
        answer = transport.pool.request(
            "GET", file["url"], headers=headers, preload_content=False, redirect=False
        )
        if size and answer.status == 200:  # a store that takes no ranges sends all of it
            digest, size = hashlib.sha256(), 0
        if answer.status not in (200, 206):
            raise TransferError(f"{file['path']} was answered with {answer.status}")
        with partial.open("ab" if size else "wb") as handle:
            for chunk in answer.stream(CHUNK_BYTES):
                size += len(chunk)
                if size > file["size_bytes"]:
                    break
                digest.update(chunk)
                handle.write(chunk)
                progress(size)
            handle.flush()
            os.fsync(handle.fileno())
        answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise TransferError(f"{file['path']} did not arrive: {error}") from error
    if size < file["size_bytes"]:
        raise TransferError(f"{file['path']} stopped after {size} of {file['size_bytes']} bytes")
    if (digest.hexdigest(), size) != (file["sha256"], file["size_bytes"]):
        partial.unlink()
        raise DigestError(
            f"{file['path']}: expected SHA-256 {file['sha256']}, got {digest.hexdigest()}"
        )
    os.replace(partial, target)


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path that stays in its folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path or "\0" in path:
        raise DigestError(f"The server names a path that leads out of the folder: {path!r}")
    return pure.parts
