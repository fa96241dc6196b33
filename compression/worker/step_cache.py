"""Results of passes, kept in object storage under the digest of all that they depend on."""

import hashlib
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.utils import timezone

from compression.models import StepResult

logger = logging.getLogger(__name__)


def load_steps(keys: list[str], scratch: Path) -> list[dict[str, Any]]:
    """The longest run of passes from the first on that the cache has, as the child's order wants.

    Only the last one's file is fetched: the ones before it are not needed any more. A file that is
    gone or damaged shortens the run.
    """
    rows = StepResult.objects.in_bulk(keys)
    known = []
    for key in keys:
        if key not in rows:
            break
        known.append(rows[key])
    while known:
        last = known[-1]
        target = scratch / "cached.onnx"
        if _fetch(last, target):
            StepResult.objects.filter(pk__in=[row.pk for row in known]).update(
                used_at=timezone.now()
            )
            files = [None] * (len(known) - 1) + ["cached.onnx"]
            return [
                {"file": file, "notes": row.notes} for file, row in zip(files, known, strict=True)
            ]
        known.pop()
    return []


def save_step(key: str, path: Path, notes: dict[str, Any]) -> None:
    """Keeps a pass's output; the row is written after the bytes, so that no half result shows."""
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"compression/steps/{key}.onnx"
    if not default_storage.exists(name):
        with path.open("rb") as stream:
            name = default_storage.save(name, File(stream))
    StepResult.objects.update_or_create(
        key=key,
        defaults={
            "name": notes["pass"],
            "storage_name": name,
            "sha256": sha256,
            "size_bytes": len(content),
            "notes": notes,
            "used_at": timezone.now(),
        },
    )


def drop_steps(*, unused_since: datetime) -> int:
    """Forgets results nobody has used since then and returns how many."""
    rows = list(StepResult.objects.filter(used_at__lt=unused_since)[:500])
    for row in rows:
        row.delete()
        default_storage.delete(row.storage_name)
    return len(rows)


def _fetch(row: StepResult, target: Path) -> bool:
    try:
        with default_storage.open(row.storage_name, "rb") as stream:
            content = stream.read()
    except (OSError, FileNotFoundError):
        logger.warning("step result %s is gone from storage", row.key[:12])
        return False
    if hashlib.sha256(content).hexdigest() != row.sha256:
        logger.warning("step result %s is damaged", row.key[:12])
        return False
    target.write_bytes(content)
    return True
