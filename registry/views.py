"""Downloads of blobs from local file storage, resumable and by signed address only."""

import re
import time
from collections.abc import Iterator
from typing import IO

from django.core.files.storage import default_storage
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    JsonResponse,
    StreamingHttpResponse,
)
from django.views.decorators.http import require_safe

from registry.exceptions import (
    BlobMissingError,
    NotFoundError,
    RegistryError,
    SigningUnavailableError,
)
from registry.models import Blob
from registry.services import blobs, trust
from registry.storage_paths import blob_path

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def parse_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None to send everything (RFC 9110, section 14.2).

    Anything but a single well-formed byte range is ignored, as the RFC allows.

    Raises:
        ValueError: well-formed, but there are no such bytes.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or (not match[1] and not match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if length == 0 or size_bytes == 0:
            raise ValueError("no such bytes")
        return max(0, size_bytes - length), size_bytes - 1
    first = int(match[1])
    last = int(match[2]) if match[2] else size_bytes - 1
    if match[2] and last < first:
        return None
    if first >= size_bytes:
        raise ValueError("no such bytes")
    return first, min(last, size_bytes - 1)


@require_safe
def download_blob(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """The bytes of a blob, or the part a Range asks for."""
    if not blobs.is_url_valid(
        sha256=sha256,
        expires=request.GET.get("expires", ""),
        signature=request.GET.get("sig", ""),
        now=time.time(),
    ):
        return _error(403, "url_expired", "The address has expired or was not made here.")
    blob = Blob.objects.filter(pk=sha256).first()
    if blob is None or not default_storage.exists(blob_path(sha256)):
        return _error(404, "not_found", "There is no such blob.")
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Type": "application/octet-stream",
        "Content-Encoding": "identity",
    }
    if etag in request.headers.get("If-None-Match", ""):
        return HttpResponseNotModified(headers={"ETag": etag})
    first, last, status = 0, blob.size_bytes - 1, 200
    if_range = request.headers.get("If-Range")
    wanted = request.headers.get("Range")
    if wanted and (if_range is None or if_range == etag):
        try:
            part = parse_range(wanted, blob.size_bytes)
        except ValueError:
            answer = _error(416, "range_not_satisfiable", "There are no such bytes.")
            answer["Content-Range"] = f"bytes */{blob.size_bytes}"
            return answer
        if part is not None:
            first, last = part
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{blob.size_bytes}"
    headers["Content-Length"] = str(last - first + 1)
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    try:
        source = blobs.open_blob(sha256)
    except BlobMissingError:
        return _error(404, "not_found", "There is no such blob.")
    source.seek(first)
    return StreamingHttpResponse(_pieces(source, last - first + 1), status=status, headers=headers)


def _pieces(source: IO[bytes], remaining: int) -> Iterator[bytes]:
    with source:
        while remaining > 0:
            chunk = source.read(min(remaining, 256 * 1024))
            if not chunk:
                return
            remaining -= len(chunk)
            yield chunk


def _error(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"code": code, "message": message, "details": {}}, status=status)


@require_safe
def trust_metadata(request: HttpRequest, name: str) -> HttpResponse:
    """A file of the root of trust, for devices and for TUF clients outside; anybody may read it."""
    try:
        data, is_immutable = trust.read_file(name)
    except NotFoundError as error:
        return JsonResponse(
            {"code": error.code, "message": error.message, "details": {}}, status=404
        )
    return _trust_answer(data, seconds=31_536_000 if is_immutable else 60)


@require_safe
def trust_target(request: HttpRequest, name: str) -> HttpResponse:
    """A release's manifest as a TUF target: `<sha256>.<sha256>.json`, or without the prefix."""
    try:
        data = trust.read_manifest(name.removesuffix(".json").rpartition(".")[2])
    except NotFoundError as error:
        return JsonResponse(
            {"code": error.code, "message": error.message, "details": {}}, status=404
        )
    return _trust_answer(data, seconds=31_536_000)


@require_safe
def trust_introduction(request: HttpRequest) -> HttpResponse:
    """The root, vouched for by the keys that a device of before believes."""
    try:
        return JsonResponse(trust.introduce_root())
    except (NotFoundError, SigningUnavailableError) as error:
        return _error_answer(error)


def _error_answer(error: RegistryError) -> JsonResponse:
    body = {"code": error.code, "message": error.message, "details": error.details}
    return JsonResponse(body, status=error.http_status)


def _trust_answer(data: bytes, *, seconds: int) -> HttpResponse:
    answer = HttpResponse(data, content_type="application/json")
    answer["Cache-Control"] = f"public, max-age={seconds}"
    return answer
