"""Scratch directories of running jobs, one per claim, and the removal of those left behind."""

import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

from django.conf import settings

logger = logging.getLogger(__name__)

_PREFIX = "compression-"


def make_scratch(claim: UUID) -> Path:
    """An empty directory for the worker that holds this claim."""
    path = _root() / f"{_PREFIX}{claim.hex}"
    path.mkdir(mode=0o700)
    return path


def remove_scratch(path: Path) -> None:
    """Removes it with all that is in it."""
    shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(held: Collection[UUID]) -> int:
    """Removes directories on this machine of claims that no running job holds any more.

    A claim is written to the database before its directory is made, so a directory without one is
    what a killed worker has left.
    """
    names = {f"{_PREFIX}{claim.hex}" for claim in held}
    left = [path for path in _root().glob(f"{_PREFIX}*") if path.name not in names]
    for path in left:
        logger.warning("removing %s, left by a lost worker", path.name)
        remove_scratch(path)
    return len(left)


def list_scratch() -> list[Path]:
    """The directories there are on this machine."""
    return sorted(_root().glob(f"{_PREFIX}*"))


def _root() -> Path:
    root = Path(settings.AVIARY_HOME) / "scratch"
    root.mkdir(parents=True, exist_ok=True)
    return root
