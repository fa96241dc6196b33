"""The limited child: `python -m registry.validation.child FOLDER` answers in FOLDER/result.json.

FOLDER holds job.json and fresh copies of the files; the limits are set before anything is read.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from registry.limited_process.limits import limit_process
from registry.processes import end_with_parent

MIB = 1024 * 1024
RESULT = "result.json"
PARTIAL = "partial.json"
"""What was found before the data set was run; it holds where that takes too long."""


def main(folder: Path) -> int:
    """Runs the job; 0 when result.json says how it went, be it well or badly."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    end_with_parent(job["parent"])
    limit_process(
        memory_bytes=job["memory_bytes"], cpu_seconds=job["cpu_seconds"], file_bytes=512 * MIB
    )
    # Imported under the limits: what they load counts against them.
    from registry.validation.arrays import check_dataset, read_npz
    from registry.validation.composition import compose_dataset, split_dataset
    from registry.validation.inspection import inspect_model
    from registry.validation.rules import RuleError

    try:
        if job["task"] == "dataset":
            arrays = read_npz(folder / "dataset.npz", job["max_array_bytes"])
            result = check_dataset(arrays, job["classes"])
        elif job["task"] == "compose":
            result = compose_dataset(folder, job)
        elif job["task"] == "split":
            result = split_dataset(folder, job)
        else:
            result = inspect_model(folder, job, lambda found: _write(folder, PARTIAL, found))
        answer: dict[str, Any] = {"ok": True, "result": result}
    except RuleError as error:
        answer = {"ok": False, "reason": str(error)}
    except MemoryError:
        answer = {"ok": False, "reason": describe_memory(job["memory_bytes"])}
    _write(folder, RESULT, answer)
    return 0


def _write(folder: Path, name: str, value: dict[str, Any]) -> None:
    staged = folder / f"{name}.part"
    staged.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
    os.replace(staged, folder / name)


def describe_memory(memory_bytes: int) -> str:
    """The reason for a file that met the memory limit."""
    return f"Needs more than {memory_bytes // MIB} MiB of memory"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
