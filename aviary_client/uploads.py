"""Files up to the server: the digest first, then the parts it lacks, straight to its store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aviary_client.errors import ApiError, ClientError, TransferError, UsageError
from aviary_client.rows import Upload
from aviary_client.transport import Transport

CHUNK_BYTES = 1024 * 1024
#: Parts that are sent at the same time; each is in memory while it is.
AT_ONCE = 4
ATTEMPTS = 5
#: Parts whose addresses are asked for in one call.
ADDRESSES = 20
#: Called with bytes that are there and bytes in all.
Progress = Callable[[int, int], None]


def hash_file(path: Path) -> tuple[str, int]:
    """SHA-256 and bytes of a file, read piece by piece."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def upload_file(
    transport: Transport, path: Path, progress: Progress = lambda done, whole: None
) -> str:
    """The file's SHA-256, once the server's store has its bytes; those that it has are not sent.

    Called again after it was interrupted, it sends what is missing.

    Raises:
        UsageError: there is no such file, or it is empty.
        TransferError: a part could not be sent. ApiError: the server refused.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}")
    sha256, size = hash_file(path)
    if size == 0:
        raise UsageError(f"{path} is empty")
    upload: Upload = transport.post("uploads/", {"sha256": sha256, "size_bytes": size})
    if upload["state"] != "stored":
        _send_parts(transport, upload, path, size, progress)
        transport.post(f"uploads/{upload['id']}/complete/")
    progress(size, size)
    return sha256


def upload_files(
    transport: Transport, files: Mapping[str, Path], progress: Progress
) -> dict[str, str]:
    """The SHA-256 of each file by its name, once the server's store has all their bytes.

    Raises:
        UsageError: there are no files, or one is missing or empty.
        TransferError: a part could not be sent. ApiError: the server refused.
    """
    if not files:
        raise UsageError("There is no file to push")
    for path in files.values():
        if not path.is_file():
            raise UsageError(f"There is no file {path}")
    whole = sum(path.stat().st_size for path in files.values())
    before, digests = 0, {}
    for name, path in files.items():

        def tell(done: int, _: int, at: int = before) -> None:
            progress(at + done, whole)

        digests[name] = upload_file(transport, path, tell)
        before += path.stat().st_size
    return digests


def _send_parts(
    transport: Transport, upload: Upload, path: Path, size: int, progress: Progress
) -> None:
    part_bytes, count = upload["part_bytes"] or 1, upload["part_count"] or 0
    there = set(upload["received"])
    missing = [number for number in range(1, count + 1) if number not in there]
    done = sum(min(part_bytes, size - (number - 1) * part_bytes) for number in there)
    progress(done, size)
    base = f"uploads/{upload['id']}/parts/"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(missing), ADDRESSES):
            numbers = missing[start : start + ADDRESSES]
            rows = transport.post(base, {"numbers": numbers})

            def send(row: dict[str, object]) -> int:
                return _send_part(transport, base, row, path, part_bytes)

            for sent in pool.map(send, rows):
                done += sent
                progress(done, size)


def _send_part(
    transport: Transport, base: str, row: dict[str, object], path: Path, part_bytes: int
) -> int:
    number = int(str(row["number"]))
    with path.open("rb") as handle:
        handle.seek((number - 1) * part_bytes)
        data = handle.read(part_bytes)
    problem: ClientError | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(2.0**attempt / 4, 8.0))
            # The address may have expired meanwhile.
            (row,) = transport.post(base, {"numbers": [number]})
        try:
            status = transport.put_bytes(str(row["url"]), data)
        except TransferError as error:
            problem = error
            continue
        if status < 300:
            return len(data)
        problem = ApiError(status, "part_refused", f"Part {number} was answered with {status}")
        if 400 <= status < 500 and status not in (403, 408, 429):
            break
    assert problem is not None
    raise problem
