"""A client of an Aviary server."""

from aviary_client.client import Client
from aviary_client.errors import (
    ApiError,
    ClientError,
    DigestError,
    OutcomeError,
    TransferError,
    WaitTimeoutError,
)
from aviary_client.version import __version__

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "DigestError",
    "OutcomeError",
    "TransferError",
    "WaitTimeoutError",
    "__version__",
]
