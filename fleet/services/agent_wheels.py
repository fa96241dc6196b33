"""Publishing the agent's wheel: checked, stored by its digest, noted in the audit log."""

from __future__ import annotations

import io
import re
import zipfile
from email.parser import Parser

from django.db import transaction
from django.utils import timezone

from fleet.exceptions import InvalidFleetInputError, PayloadTooLargeError
from fleet.models import AgentWheel
from registry.services.audit import record_event
from registry.services.blobs import Readable, store_blob

WHEEL_NAME = re.compile(r"aviary_edge_agent-([0-9][A-Za-z0-9.+_]{0,40})-py3-none-any\.whl")
MAX_WHEEL_BYTES = 16 * 1024 * 1024


def publish_agent_wheel(*, filename: str, stream: Readable, actor: str) -> tuple[AgentWheel, bool]:
    """The published wheel, and False when these very bytes were the newest already.

    Other bytes under a name already published take its place, and the audit log says so: the
    install command pins the digest, so nobody gets bytes that were not meant.

    Raises:
        InvalidFleetInputError: not a pure-Python wheel of the agent.
        PayloadTooLargeError: more than 16 MiB.
    """
    content = stream.read(MAX_WHEEL_BYTES + 1)
    if len(content) > MAX_WHEEL_BYTES:
        raise PayloadTooLargeError(f"An agent wheel is at most {MAX_WHEEL_BYTES} bytes")
    version = check_wheel(filename, content)
    blob = store_blob(stream=io.BytesIO(content), max_bytes=MAX_WHEEL_BYTES)
    with transaction.atomic():
        newest = AgentWheel.objects.select_for_update().first()
        if newest is not None and (newest.filename, newest.blob_id) == (filename, blob.pk):
            return newest, False
        replaced = AgentWheel.objects.filter(filename=filename).first()
        wheel, _ = AgentWheel.objects.update_or_create(
            filename=filename,
            defaults={
                "version": version,
                "blob": blob,
                "published_by": actor,
                "published_at": timezone.now(),
            },
        )
        record_event(
            actor=actor,
            action="agent_wheel.published",
            obj=wheel,
            summary=f"Edge agent {version} was published",
            details={
                "sha256": blob.pk,
                "size_bytes": len(content),
                "replaced_sha256": replaced.blob_id if replaced else None,
            },
        )
    return wheel, True


def check_wheel(filename: str, content: bytes) -> str:
    """The version of a wheel whose name and metadata agree that it is the agent's."""
    found = WHEEL_NAME.fullmatch(filename)
    if found is None:
        raise InvalidFleetInputError(
            f"Expected aviary_edge_agent-<version>-py3-none-any.whl, got {filename}"
        )
    version = found[1]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = archive.getinfo(f"aviary_edge_agent-{version}.dist-info/METADATA")
            if entry.file_size > 1024 * 1024:
                raise InvalidFleetInputError("The wheel's METADATA is larger than 1 MiB")
            metadata = Parser().parsestr(archive.read(entry).decode("utf-8"))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise InvalidFleetInputError(f"{filename} is not a wheel: {error}") from error
    if (metadata["Name"], metadata["Version"]) != ("aviary-edge-agent", version):
        raise InvalidFleetInputError(
            f"Expected metadata of aviary-edge-agent {version}, "
            f"got {metadata['Name']} {metadata['Version']}"
        )
    return version
