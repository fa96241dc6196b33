"""Starting the limited child and believing nothing of it but its answer."""

import json
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from registry.exceptions import ChildFailedError
from registry.limited_process.parent import MemoryWatch, end_group, read_tail, start_process
from registry.validation.child import PARTIAL, RESULT, describe_memory

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
WALL_SECONDS = 90
CPU_SECONDS = 60
PROFILE_SECONDS = 15.0
"""For the rows of a data set: a quarter of the processor time, on a machine that is shared."""
BASE_MEMORY_BYTES = 3 * 1024 * MIB
MAX_ARRAY_BYTES = 1024 * MIB


class RejectedError(Exception):
    """The child looked and says no; the message is its reason."""


def run_child(
    folder: Path, job: dict[str, Any], *, wall_seconds: int = WALL_SECONDS
) -> dict[str, Any]:
    """The child's result.

    Args:
        folder: a private folder with copies of the files; the answer is written there.
        job: `task` is `model`, `dataset`, `compose` or `split`; limits are filled in here.

    Raises:
        RejectedError: the file breaks a rule.
        ChildFailedError: the child ended without an answer, by a limit or a crash.
    """
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    job = {
        "memory_bytes": BASE_MEMORY_BYTES + 6 * total,
        "cpu_seconds": CPU_SECONDS,
        "max_array_bytes": MAX_ARRAY_BYTES,
        "limits": {
            "memory_bytes": BASE_MEMORY_BYTES + 6 * total,
            "profile_seconds": PROFILE_SECONDS,
        },
        "parent": os.getpid(),
        **job,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with (folder / "stderr.txt").open("wb") as stderr:
        process = start_process(
            "registry.validation.child",
            folder,
            folder=folder,
            threads=1,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            with MemoryWatch(process, job["memory_bytes"]) as watch:
                code = process.wait(timeout=wall_seconds)
        except subprocess.TimeoutExpired as error:
            said = f"Validation took longer than {wall_seconds} s"
            partial = _read_partial(folder, said)
            if partial is None:
                raise ChildFailedError(said) from error
            return partial
        finally:
            end_group(process, is_gentle=False)
    if watch.is_exceeded:
        said = describe_memory(job["memory_bytes"])
        partial = _read_partial(folder, said)
        if partial is None:
            raise RejectedError(said)
        return partial
    answer_path = folder / RESULT
    if code != 0 or not answer_path.exists():
        partial = _read_partial(folder, _describe_end(code))
        if partial is not None:
            return partial
        tail = read_tail(folder / "stderr.txt", 2000)
        logger.warning("The validation child ended with %s: %s", code, tail)
        raise ChildFailedError(_describe_end(code))
    answer: dict[str, Any] = json.loads(answer_path.read_text(encoding="utf-8"))
    if not answer["ok"]:
        raise RejectedError(answer["reason"])
    result: dict[str, Any] = answer["result"]
    return result


def _read_partial(folder: Path, said: str) -> dict[str, Any] | None:
    """What was found of a model before its data set was run; None where that never began.

    Running the data set costs the reference, not the version: what was found holds.
    """
    path = folder / PARTIAL
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    result["notes"] = [
        *result["notes"],
        f"There is no reference: on the data set, {said[0].lower()}{said[1:]}. Bring fewer rows",
    ]
    return result


def _describe_end(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"The model brought the validating process down ({name}): crash or limit"
    return "The validating process failed on this file, for lack of memory or by a defect in it"
