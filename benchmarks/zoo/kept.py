"""What was measured of each model, kept so that a run that was broken off goes on."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.zoo.judging import Cell
from benchmarks.zoo.product import Upload

FOLDER = Path("var/zoo")


def keep(model: str, taken: Upload, cells: list[Cell], seconds: float) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    row: dict[str, Any] = {
        "upload": asdict(taken),
        "cells": [asdict(cell) for cell in cells],
        "seconds": seconds,
    }
    staged = FOLDER / f"{model}.part"
    staged.write_text(json.dumps(row))
    staged.replace(FOLDER / f"{model}.json")


def read_kept(model: str) -> tuple[Upload, list[Cell], float] | None:
    """What `keep` was given; None where there is nothing."""
    path = FOLDER / f"{model}.json"
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    return Upload(**row["upload"]), [Cell(**cell) for cell in row["cells"]], row["seconds"]
