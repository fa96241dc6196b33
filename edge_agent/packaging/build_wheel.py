"""Builds the agent's wheel: `python edge_agent/packaging/build_wheel.py FOLDER [SOURCES]`.

Needs setuptools and no network. The same sources give the same bytes on every machine: times come
from `SOURCE_DATE_EPOCH`, modes and names from a clean copy, and setuptools sorts the entries.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent
EPOCH = "1767225600"  # 2026-01-01; a zip cannot hold the time of every commit it is built from
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", "build", "dist", ".*")


def build_wheel(folder: Path, sources: Path = SOURCES) -> Path:
    """The wheel, written to `folder`.

    Args:
        sources: the folder of another package with a `pyproject.toml` like the agent's.

    Raises:
        RuntimeError: setuptools refused; the message ends with its words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work, sources.name)
        shutil.copytree(sources, copy, ignore=LEFT_OUT)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        out = Path(work, "out")
        out.mkdir()
        code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
        done = subprocess.run(
            [sys.executable, "-c", code, str(out)],
            cwd=copy,
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
            capture_output=True,
            text=True,
            umask=0o022,
        )
        if done.returncode:
            raise RuntimeError(f"setuptools could not build the wheel: {done.stderr[-1000:]}")
        (built,) = out.glob("*.whl")
        return Path(shutil.copy(built, folder / built.name))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: build_wheel.py FOLDER [SOURCES]")
    print(build_wheel(Path(sys.argv[1]), *(Path(name).resolve() for name in sys.argv[2:])))
