"""The S3 storage with short deadlines and a breaker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from storages.backends.s3 import S3File, S3Storage

from registry.breaker import Breaker
from registry.exceptions import UnavailableError

CONNECT_SECONDS = 2
#: Between two pieces of an answer, however large it is.
ANSWER_SECONDS = 10

_SILENT = (
    ConnectTimeoutError,
    ReadTimeoutError,
    EndpointConnectionError,
    ConnectionClosedError,
    ResponseStreamingError,
    IncompleteReadError,
)

breaker = Breaker(
    "The object store", trips_on=(UnavailableError,), refuses_with=UnavailableError, open_seconds=5
)


class _GuardedFile(S3File):
    """Its bytes come with the first read."""

    def _get_file(self) -> Any:
        with _guarded():
            return super()._get_file()

    file = property(_get_file, S3File._set_file)


class GuardedS3Storage(S3Storage):
    """Raises `UnavailableError`, at once while the breaker is open, where S3 does not answer."""

    def __init__(self, **settings: Any) -> None:
        timing = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        super().__init__(**settings)
        self.client_config: Config = self.client_config.merge(timing)  # type: ignore[has-type]

    def _open(self, name: str, mode: str = "rb") -> Any:
        with _guarded():
            opened = super()._open(name, mode)
        opened.__class__ = _GuardedFile
        return opened

    def _save(self, name: str, content: Any) -> Any:
        with _guarded():
            return super()._save(name, content)

    def delete(self, name: str) -> None:
        with _guarded():
            super().delete(name)

    def exists(self, name: str) -> bool:
        with _guarded():
            found: bool = super().exists(name)
            return found

    def size(self, name: str) -> int:
        with _guarded():
            found: int = super().size(name)
            return found

    # Uploads in parts, straight from the client to the store.

    def begin_parts(self, name: str) -> str:
        """The store's name of an upload in parts."""
        with _guarded():
            answer = self._client.create_multipart_upload(Bucket=self.bucket_name, Key=name)
            return str(answer["UploadId"])

    def part_url(self, name: str, upload: str, number: int, ttl_seconds: int) -> str:
        """The address to which the bytes of one part are put; signed here, without a call."""
        asked = {
            "Bucket": self.bucket_name, "Key": name, "UploadId": upload, "PartNumber": number,
        }  # fmt: skip
        return str(self._client.generate_presigned_url("upload_part", asked, ExpiresIn=ttl_seconds))

    def list_parts(self, name: str, upload: str) -> dict[int, tuple[int, str]]:
        """Number of each part that has arrived to its bytes and the store's tag of it.

        None, once the parts were joined.
        """
        with _guarded():
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self.bucket_name, Key=name, UploadId=upload
            )
            try:
                return {
                    part["PartNumber"]: (part["Size"], part["ETag"])
                    for page in pages
                    for part in page.get("Parts", [])
                }
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchUpload":
                    raise
                return {}

    def join_parts(self, name: str, upload: str) -> None:
        """Makes the object of all the parts that have arrived."""
        parts = [
            {"PartNumber": number, "ETag": tag}
            for number, (_, tag) in sorted(self.list_parts(name, upload).items())
        ]
        with _guarded():
            self._client.complete_multipart_upload(
                Bucket=self.bucket_name,
                Key=name,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
            )

    def drop_parts(self, name: str, upload: str) -> None:
        """Forgets an upload in parts; one that the store does not know is no error."""
        with _guarded():
            try:
                self._client.abort_multipart_upload(
                    Bucket=self.bucket_name, Key=name, UploadId=upload
                )
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchUpload":
                    raise

    def copy(self, name: str, target: str) -> None:
        """Copies an object within the store; in parts where it is too large for one call."""
        with _guarded():
            self._client.copy({"Bucket": self.bucket_name, "Key": name}, self.bucket_name, target)

    @property
    def _client(self) -> Any:
        return self.connection.meta.client


@contextmanager
def _guarded() -> Iterator[None]:
    with breaker.call():
        try:
            yield
        except _SILENT as error:
            raise UnavailableError(f"The object store does not answer: {error}") from error
        except ClientError as error:
            if error.response["ResponseMetadata"].get("HTTPStatusCode", 0) < 500:
                raise
            raise UnavailableError(f"The object store failed: {error}") from error
