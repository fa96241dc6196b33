"""What was measured of each model, kept so that a run that was broken off goes on.

Only on the same code: figures of another one are no part of this run.
"""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.zoo.judging import Cell
from benchmarks.zoo.product import Upload

FOLDER = Path("var/zoo")
CODE = ("benchmarks/zoo", "compression", "edge_agent", "registry")


@cache
def digest_code() -> str:
    """One SHA-256 over the program text that makes and judges figures."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in Path(folder).rglob("*.py")):
        digest.update(f"{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def keep(model: str, taken: Upload, cells: list[Cell], seconds: float) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    row: dict[str, Any] = {
        "code": digest_code(),
        "upload": asdict(taken),
        "cells": [asdict(cell) for cell in cells],
        "seconds": seconds,
    }
    staged = FOLDER / f"{model}.part"
    staged.write_text(json.dumps(row))
    staged.replace(FOLDER / f"{model}.json")


def read_kept(model: str) -> tuple[Upload, list[Cell], float] | None:
    """What `keep` was given by this very code; None where there is nothing."""
    path = FOLDER / f"{model}.json"
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    if row.get("code") != digest_code():
        return None
    return Upload(**row["upload"]), [Cell(**cell) for cell in row["cells"]], row["seconds"]
