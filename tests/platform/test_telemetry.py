"""No process of the project reports to the maker of the runtime it uses."""

import os
import sys
from pathlib import Path

import pytest

from servers.kept import run

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import onnxruntime
path = "demo/data/digits-cnn-1.0.0.onnx"
onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
"""


def list_written(home: Path, code: str) -> list[str]:
    """What a process that loads a model leaves in its home folder."""
    # A bare environment: the runtime is silent by itself where it takes a build for a CI's.
    environment = {"PATH": os.defpath, "HOME": str(home)}
    assert run([sys.executable, "-c", code], env=environment, cwd=ROOT).returncode == 0
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("package", ["edge_agent", "registry", "compression"])
def test_the_runtime_is_told_to_be_silent(package: str, tmp_path: Path) -> None:
    assert list_written(tmp_path, f"import {package}\n{LOAD}") == []


def test_the_runtime_would_not_be_silent_by_itself(tmp_path: Path) -> None:
    assert "deviceid" in list_written(tmp_path, LOAD)
