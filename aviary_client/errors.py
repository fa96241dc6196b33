"""What can go wrong, each with the exit status of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """How a command ended; `docs/cli.md` has the table."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    TIMED_OUT = 6
    FAILED = 10
    ROLLED_BACK = 20
    HELD = 21
    SUPERSEDED = 22


class ClientError(Exception):
    """Base of every error of this package."""

    exit = Exit.REFUSED
    code = "error"

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})


class ApiError(ClientError):
    """The server answered with an error; `status` is that of HTTP and `code` the server's own."""

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, details)
        self.status = status
        self.code = code
        if status in (401, 403):
            self.exit = Exit.NOT_ALLOWED
        elif status == 404:
            self.exit = Exit.NOT_FOUND


class SettingsError(ClientError):
    """There is no server, no token, or a setting that cannot be used."""

    exit = Exit.NOT_ALLOWED
    code = "not_logged_in"


class UsageError(ClientError):
    """What was asked for makes no sense as it was written."""

    exit = Exit.USAGE
    code = "usage"


class TransferError(ClientError):
    """The server, or the object store, did not answer."""

    exit = Exit.UNREACHABLE
    code = "unreachable"


class DigestError(ClientError):
    """Bytes that arrived are not the bytes that were announced."""

    exit = Exit.FAILED
    code = "digest_mismatch"


class WaitTimeoutError(ClientError):
    """What was waited for did not happen in time."""

    exit = Exit.TIMED_OUT
    code = "timed_out"


class OutcomeError(ClientError):
    """What was waited for ended, and not well."""

    code = "ended_badly"

    def __init__(
        self, message: str, details: Mapping[str, Any] | None = None, exit: Exit = Exit.FAILED
    ) -> None:
        super().__init__(message, details)
        self.exit = exit
