"""Uploads in parts: bytes first, by their digest; a version then names them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, OpenApiTypes, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.permissions import ModelPermissions
from registry.api.strict import KnownFieldsOnly
from registry.models import Blob, BlobUpload, Version
from registry.services import blob_uploads

MOST_ADDRESSES = 100


class UploadBeginSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """What is to be uploaded."""

    sha256 = serializers.CharField(max_length=64)
    size_bytes = serializers.IntegerField(min_value=1)


class UploadSerializer(serializers.Serializer[Any]):
    """How far an upload is. `stored`: the bytes are there and nothing has to be sent."""

    state = serializers.ChoiceField(choices=["stored", "open"])
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()
    id = serializers.UUIDField(allow_null=True)
    part_bytes = serializers.IntegerField(
        allow_null=True, help_text="Of each part but the last, which has the rest."
    )
    part_count = serializers.IntegerField(allow_null=True)
    received = serializers.ListField(
        child=serializers.IntegerField(), help_text="Numbers of the parts that are there, from 1."
    )


class PartsSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Which parts are about to be sent."""

    numbers = serializers.ListField(
        child=serializers.IntegerField(min_value=1), min_length=1, max_length=MOST_ADDRESSES
    )


class PartAddressSerializer(serializers.Serializer[Any]):
    """Where to PUT a part; below this server's address, with the token."""

    number = serializers.IntegerField()
    url = serializers.CharField()
    size_bytes = serializers.IntegerField()


class StreamParser(BaseParser):
    """The bytes as they come, unread."""

    media_type = "application/octet-stream"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return stream


class _UploadView(generics.GenericAPIView[Version]):
    """An upload is the first half of making a version, and needs the same permission."""

    queryset = Version.objects.none()
    permission_classes = [ModelPermissions]
    act_permissions = dict.fromkeys(("PUT", "DELETE"), "registry.add_version")

    def find(self, request: Request, pk: Any) -> BlobUpload:
        return blob_uploads.find_upload(upload_id=pk, actor=request.user.get_username())


class UploadList(_UploadView):
    """Where bytes begin."""

    serializer_class = UploadSerializer

    @extend_schema(
        request=UploadBeginSerializer, responses={200: UploadSerializer, 201: UploadSerializer}
    )
    def post(self, request: Request) -> Response:
        """Begins an upload, or goes on with the unfinished one of the same bytes.

        200 where something of it is there, 201 where it is new. Send the parts that `received`
        does not name, then complete it.
        """
        body = UploadBeginSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        blob, upload = blob_uploads.begin_upload(
            **body.validated_data,
            actor=request.user.get_username(),
            may_reuse=request.user.has_perm("registry.view_variant"),
        )
        if upload is None:
            assert blob is not None
            return Response(_stored(blob))
        answer = _open(upload)
        code = status.HTTP_200_OK if answer["received"] else status.HTTP_201_CREATED
        return Response(answer, status=code)


class UploadDetail(_UploadView):
    """An unfinished upload of one's own."""

    serializer_class = UploadSerializer

    def get(self, request: Request, pk: Any) -> Response:
        """How far the upload is."""
        return Response(_open(self.find(request, pk)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: Any) -> Response:
        """Forgets the upload and its parts."""
        blob_uploads.drop_upload(self.find(request, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class PartAddresses(_UploadView):
    """Where parts go."""

    serializer_class = PartAddressSerializer

    @extend_schema(request=PartsSerializer, responses=PartAddressSerializer(many=True))
    def post(self, request: Request, pk: Any) -> Response:
        """Addresses to which the bytes of parts are PUT; they expire."""
        upload = self.find(request, pk)
        body = PartsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        base = settings.AVIARY_PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
        rows = blob_uploads.part_addresses(
            upload, body.validated_data["numbers"], here=f"{base}/api/v1/uploads/{upload.pk}/"
        )
        return Response(rows)


class PartDetail(_UploadView):
    """Parts that this server takes itself, where there is no object store."""

    parser_classes = [StreamParser]

    @extend_schema(
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses={204: OpenApiResponse(description="The part is kept.")},
    )
    def put(self, request: Request, pk: Any, number: int) -> Response:
        """The bytes of a part; a part that was sent before is replaced."""
        upload = self.find(request, pk)
        # Without a body the parser is not asked, and there is nothing to read.
        stream: Any = request.data if hasattr(request.data, "read") else _Nothing()
        blob_uploads.take_part(upload, number, stream)
        return Response(status=status.HTTP_204_NO_CONTENT)


class UploadComplete(_UploadView):
    """The end of an upload."""

    serializer_class = UploadSerializer

    @extend_schema(request=None)
    def post(self, request: Request, pk: Any) -> Response:
        """Puts the parts together and checks the digest; wrong bytes are forgotten."""
        return Response(_stored(blob_uploads.complete_upload(self.find(request, pk))))


class _Nothing:
    """A body of no bytes."""

    def read(self, n: int = -1, /) -> bytes:
        return b""


def _stored(blob: Blob) -> dict[str, Any]:
    return {
        "state": "stored",
        "sha256": blob.pk,
        "size_bytes": blob.size_bytes,
        "id": None,
        "part_bytes": None,
        "part_count": None,
        "received": [],
    }


def _open(upload: BlobUpload) -> dict[str, Any]:
    return {
        "state": "open",
        "sha256": upload.sha256,
        "size_bytes": upload.size_bytes,
        "id": str(upload.pk),
        "part_bytes": upload.part_bytes,
        "part_count": upload.part_count,
        "received": blob_uploads.received_parts(upload),
    }
