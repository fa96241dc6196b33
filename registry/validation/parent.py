"""Starting the limited child and believing nothing of it but its answer."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from registry.exceptions import ChildFailedError

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
WALL_SECONDS = 90
CPU_SECONDS = 60
BASE_MEMORY_BYTES = 3 * 1024 * MIB
MAX_ARRAY_BYTES = 1024 * MIB
_PROJECT = Path(__file__).resolve().parent.parent.parent


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
        "parent": os.getpid(),
        **job,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    # No secret of the server's environment reaches the child.
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder / "stderr.txt").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-s", "-m", "registry.validation.child", str(folder)],
            cwd=_PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        code = process.wait(timeout=wall_seconds)
    except subprocess.TimeoutExpired as error:
        raise ChildFailedError(f"Validation took longer than {wall_seconds} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    answer_path = folder / "result.json"
    if code != 0 or not answer_path.exists():
        tail = (folder / "stderr.txt").read_bytes()[-2000:].decode("utf-8", "replace")
        logger.warning("The validation child ended with %s: %s", code, tail)
        raise ChildFailedError(_describe_end(code))
    answer: dict[str, Any] = json.loads(answer_path.read_text(encoding="utf-8"))
    if not answer["ok"]:
        raise RejectedError(answer["reason"])
    result: dict[str, Any] = answer["result"]
    return result


def _describe_end(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"The model brought the validating process down ({name}): crash or limit"
    return "The validating process failed on this file, for lack of memory or by a defect in it"
