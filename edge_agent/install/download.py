"""Fetches a file whose digest is known, resuming what an earlier try left.

A half-fetched file is resumed with `Range`, and with `If-Range` where the server named a strong
validator (RFC 9110, 13.1.5): its own ETag as it was received, which is what a cache compares with.
Without one the range is asked for all the same, for the digest tells whether the whole is right.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.config import InstallConfig
from edge_agent.control.transport import Transport
from edge_agent.exceptions import (
    DigestError,
    DiskFullError,
    DownloadError,
    LengthError,
    RedirectError,
    TransferError,
)
from edge_agent.files import FileLayer, publish
from edge_agent.install.budget import Ledger
from edge_agent.install.hashing import BackgroundHash
from edge_agent.install.part import Part
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import ManifestFile

logger = logging.getLogger(__name__)
CHUNK_BYTES = 64 << 10, 512 << 10
"""Least and most that is read, hashed and written at a time; more falls out of a core's cache."""
CHUNKS_PER_FILE = 64
"""A connection that breaks costs at most one chunk: so much of a large file, or less."""


class UrlExpiredError(DownloadError):
    code = "url_expired"


@dataclass
class Progress:
    """What one file has cost so far."""

    attempts: int = 0
    bytes_taken: int = 0
    is_resumed: bool = False
    """The attempt went on from bytes that were here before it."""


class Downloader:
    def __init__(
        self,
        files: FileLayer,
        layout: Layout,
        transport: Transport,
        config: InstallConfig,
        *,
        sleep: Callable[[int], None],
    ) -> None:
        """`sleep` waits after the n-th failure, and may raise to stop."""
        self.files = files
        self.layout = layout
        self.transport = transport
        self.config = config
        self.sleep = sleep

    def fetch(
        self,
        file: ManifestFile,
        get_url: Callable[[bool], str],
        *,
        attempts: int = 0,
        ledger: Ledger | None = None,
    ) -> None:
        """Makes `blobs/<sha256>` whole and durable.

        Args:
            get_url: the file's address; called with True once when the first one has expired.
            attempts: transfers before it is given up; 0 takes the configured number.
            ledger: what the release has cost over all runs; None counts nothing.

        Raises:
            BudgetError: the release has taken all that it may for now.
            DigestError, LengthError: the server sends other bytes than were signed.
            DownloadError: attempts or bytes ran out.
            DiskFullError: not enough space above the reserve.
        """
        if self.has_blob(file):
            return
        part = self.part_of(file)
        self.fetch_part(part, get_url, attempts=attempts, ledger=ledger)
        self._publish(part)

    def fetch_part(
        self,
        part: Part,
        get_url: Callable[[bool], str],
        *,
        attempts: int = 0,
        ledger: Ledger | None = None,
    ) -> None:
        """Makes `part` whole, and nothing else; the arguments and errors are those of `fetch`."""
        file = part.file
        self.check_space(part)
        attempts = attempts or self.config.download_attempts
        progress, url, taken_at_renewal = Progress(), get_url(False), -1
        while True:
            progress.attempts += 1
            try:
                self._attempt(part, url, progress, ledger)
                return
            except UrlExpiredError:
                # An address may be good for one connection: another is asked for while each brings
                # bytes.
                if progress.bytes_taken <= taken_at_renewal:
                    raise
                url, taken_at_renewal = get_url(True), progress.bytes_taken
            except DigestError:
                # A resumed prefix may be of other bytes; a clean second try tells who is wrong.
                if progress.attempts > 1 and not progress.is_resumed:
                    raise
            except (LengthError, RedirectError):
                # Asking again at once brings the same; the next poll may find it mended.
                raise
            except TransferError as error:
                if progress.attempts >= attempts:
                    raise DownloadError(
                        f"{file.path}: {error} (attempt {progress.attempts})"
                    ) from error
                logger.warning("download of %s: %s; trying again", file.path, error)
                self.sleep(progress.attempts)

    def part_of(self, file: ManifestFile) -> Part:
        return Part(self.files, self.layout.part(file.sha256), file)

    def has_blob(self, file: ManifestFile) -> bool:
        """True when the blob is here and whole; a damaged one is removed."""
        path = self.layout.blob(file.sha256)
        if self.files.size(path) is None:
            return False
        if self.files.digest(path) == file.sha256:
            return True
        logger.error("blob %s is damaged and removed", file.sha256)
        self.files.unlink(path)
        return False

    def check_space(self, part: Part) -> None:
        needed = part.file.size_bytes - (self.files.size(part.path) or 0)
        free = self.files.free_bytes(self.layout.parts) - self.config.disk_reserve_bytes
        if needed > free:
            raise DiskFullError(f"{part.file.path} needs {needed} bytes, {free} are free")

    def store(self, file: ManifestFile, data: bytes) -> None:
        """Makes `data` the blob of `file`, after the same checks as a download."""
        part = self.part_of(file)
        part.begin("")
        self.files.write(part.path, data)
        part.check()
        self._publish(part)

    def _attempt(self, part: Part, url: str, progress: Progress, ledger: Ledger | None) -> None:
        file, have = part.file, part.size()
        progress.is_resumed = have > 0
        if have == file.size_bytes and have > 0:
            part.check()
            return
        if ledger is not None:
            ledger.begin_attempt()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator := part.read_validator():
                headers["If-Range"] = validator
        response = self.transport.open_stream(url, headers=headers)
        try:
            if response.status == 206:
                self._check_range(response.headers.get("Content-Range", ""), have, part)
            elif response.status == 200:
                part.begin(response.headers.get("ETag", ""))
                have, progress.is_resumed = 0, False
            elif response.status == 416:
                part.discard()
                raise DownloadError("range refused; starting over")
            elif response.status == 403:
                raise UrlExpiredError("the address has expired")
            else:
                raise DownloadError(f"server answered {response.status}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise DownloadError("server encoded the body")
            declared = response.headers.get("Content-Length", "")
            # As text: no number of this length, whatever its digits, has to be made.
            if declared and declared != str(file.size_bytes - have):
                raise DownloadError(
                    f"expected {file.size_bytes - have} bytes, server announces {declared[:40]!r}"
                )
            have, digest = self._take_body(response, part, progress, ledger, have)
        finally:
            response.close()
        if have < file.size_bytes:
            raise DownloadError(f"expected {file.size_bytes} bytes, got {have}")
        # What went to the file was hashed on its way; only a resumed one is read again for its
        # beginning, which another run of the agent has written.
        part.check(None if progress.is_resumed else digest)

    def _take_body(
        self,
        response: Any,
        part: Part,
        progress: Progress,
        ledger: Ledger | None,
        have: int,
    ) -> tuple[int, str]:
        """Appends the body to the part; its size now, and the digest of what came."""
        from urllib3.exceptions import HTTPError

        file = part.file
        least, most = CHUNK_BYTES
        chunk_bytes = min(max(file.size_bytes // CHUNKS_PER_FILE, least), most)
        slowest_s = self.transport.config.answer_deadline_s + (
            file.size_bytes / self.config.download_min_bytes_per_s
        )
        with BackgroundHash() as hasher:
            try:
                for chunk in read_pieces(response, chunk_bytes, slowest_s):
                    have += len(chunk)
                    progress.bytes_taken += len(chunk)
                    if ledger is not None:
                        ledger.take(len(chunk))
                    if have > file.size_bytes:
                        part.discard()
                        raise LengthError(f"more than the declared {file.size_bytes} bytes")
                    allowed = file.size_bytes * self.config.download_max_overhead + chunk_bytes
                    if progress.bytes_taken > allowed:
                        raise LengthError(f"took {progress.bytes_taken} bytes and is not whole")
                    hasher.update(chunk)
                    part.append(chunk)
            except (HTTPError, OSError) as error:
                raise TransferError(f"broke off after {have} bytes: {error}") from error
            return have, hasher.hexdigest()

    def _check_range(self, content_range: str, have: int, part: Part) -> None:
        match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", content_range)
        size = part.file.size_bytes
        if not match or int(match[1]) != have or match[2] not in ("*", str(size)):
            part.discard()
            raise DownloadError(f"asked from byte {have}, answered {content_range[:80]!r}")

    def _publish(self, part: Part) -> None:
        # `part/` is not synced: a name that comes back there is swept at the next start.
        part.forget_validator()
        publish(self.files, part.path, self.layout.blob(part.file.sha256))


def read_pieces(response: Any, size_bytes: int, slowest_s: float) -> Iterator[bytes]:
    """The body in pieces of about `size_bytes`; what came before a fault still comes out.

    Raises:
        DownloadError: it has taken more than `slowest_s` seconds.
    """
    deadline, pending = time.monotonic() + slowest_s, bytearray()
    try:
        # What is there now, for a read of all would wait for the slowest byte.
        while piece := response.read1(size_bytes, decode_content=False):
            if time.monotonic() > deadline:
                pending += piece
                raise DownloadError(f"slower than {slowest_s:.0f} s for the file")
            if not pending and 2 * len(piece) >= size_bytes:
                # A fast network fills pieces by itself; gathering them would copy every byte twice.
                yield piece
                continue
            pending += piece
            if len(pending) >= size_bytes:
                yield bytes(pending)
                pending.clear()
    except Exception:
        if pending:
            yield bytes(pending)
        raise
    if pending:
        yield bytes(pending)
