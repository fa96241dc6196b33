"""Bodies: JSON that can be stored, and forms with files that arrived whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import (
    BaseParser,
    DataAndFiles,
    FormParser,
    MultiPartParser,
)
from rest_framework.renderers import JSONRenderer

from registry.decoded import NotJSONError, UnstorableValueError, check_decoded, decode_json
from registry.exceptions import UploadIncompleteError, UploadTooLargeError

_FORM_OVERHEAD_BYTES = 1024 * 1024


class _CountingStream:
    """Counts what is read: Django's parser takes a body that stops early for the end of a file."""

    def __init__(self, stream: IO[Any]) -> None:
        self.stream = stream
        self.read_bytes = 0

    def read(self, *args: Any) -> bytes:
        data: bytes = self.stream.read(*args)
        self.read_bytes += len(data)
        return data


def refuse(error: UnstorableValueError) -> ValidationError:
    """The 400 that names the path of what cannot be kept."""
    return ValidationError({error.path: [error.problem]}, code="unstorable")


class CheckedJSONParser(BaseParser):
    """JSON in UTF-8, whatever charset the header names, checked by `registry.decoded`."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            return decode_json(stream.read())
        except NotJSONError as error:
            raise ParseError(f"The body is {error.problem}") from error
        except UnstorableValueError as error:
            raise refuse(error) from error


def check_fields(fields: Any) -> None:
    """Refuses fields of a form that cannot be kept."""
    for name, values in fields.lists():
        try:
            check_decoded({name: values})
        except UnstorableValueError as error:
            raise refuse(error) from error


class CheckedFormParser(FormParser):
    """A form without files, checked."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        fields: Any = super().parse(stream, media_type, parser_context)
        check_fields(fields)
        return fields


class WholeMultiPartParser(MultiPartParser):
    """Refuses bodies that are too large before reading them, and bodies that stop short."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> DataAndFiles[Any, Any]:
        request = (parser_context or {})["request"]
        announced = int(request.META.get("CONTENT_LENGTH") or 0)
        largest = settings.AVIARY_MAX_UPLOAD_BYTES + _FORM_OVERHEAD_BYTES
        if announced > largest:
            raise UploadTooLargeError(
                f"At most {settings.AVIARY_MAX_UPLOAD_BYTES} bytes are taken; "
                f"{announced} were announced",
                {"max_bytes": settings.AVIARY_MAX_UPLOAD_BYTES},
            )
        counting = _CountingStream(stream)
        parsed: Any = super().parse(counting, media_type, parser_context)  # type: ignore[arg-type]
        if counting.read_bytes < announced:
            for _name, files in parsed.files.lists():
                for file in files:
                    file.close()
            raise UploadIncompleteError(
                f"{announced} bytes were announced and {counting.read_bytes} arrived",
                {"announced": announced, "arrived": counting.read_bytes},
            )
        check_fields(parsed.data)
        return parsed
