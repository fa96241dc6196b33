"""A file that is being fetched: the bytes that came so far, and the validator they came under."""

import re
from pathlib import Path

from edge_agent.exceptions import DigestError, LengthError
from edge_agent.files import FileLayer
from edge_agent.releases.trust import ManifestFile

STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,254}"')
"""RFC 9110, 8.8.3. A weak one (`W/`) does not vouch for bytes and may not go into `If-Range`."""


class Part:
    def __init__(self, files: FileLayer, path: Path, file: ManifestFile) -> None:
        self.files = files
        self.path = path
        self.file = file
        self._validator_path = path.with_name(path.name + ".etag")

    def size(self) -> int:
        """Bytes that are here; more than the file has are thrown away first."""
        have = self.files.size(self.path) or 0
        if have > self.file.size_bytes:
            self.discard()
            return 0
        return have

    def read_validator(self) -> str:
        """The ETag that the bytes came under, in its quotes; empty where no strong one is known."""
        text = (self.files.read(self._validator_path) or b"").decode("ascii", "replace")
        return text if STRONG_ETAG.fullmatch(text) else ""

    def begin(self, etag: str) -> None:
        """Empties the part for a body that comes under `etag`, as the server's header has it."""
        # The old validator goes first: it must not vouch for bytes that are not its own.
        self.files.unlink(self._validator_path)
        self.files.write(self.path, b"")
        if STRONG_ETAG.fullmatch(etag):
            # Not synced: without it the digest alone tells whether a resumed file is right.
            self.files.write(self._validator_path, etag.encode("ascii"))

    def append(self, data: bytes) -> None:
        self.files.append(self.path, data)

    def discard(self) -> None:
        self.files.unlink(self._validator_path)
        self.files.unlink(self.path)

    def forget_validator(self) -> None:
        self.files.unlink(self._validator_path)

    def check(self, digest: str | None = None) -> None:
        """Throws the part away unless it is the whole file.

        Args:
            digest: SHA-256 of what is here, where it was worked out while it came.

        Raises:
            LengthError, DigestError: it is something else.
        """
        file = self.file
        size, digest = self.files.size(self.path), digest or self.files.digest(self.path)
        if size == file.size_bytes and digest == file.sha256:
            return
        self.discard()
        if size != file.size_bytes:
            raise LengthError(f"{file.path}: expected {file.size_bytes} bytes, got {size}")
        raise DigestError(f"{file.path}: expected {file.sha256}, got {digest}")
