"""The C++ program gives the same answer as the agent, built against the library of the wheel."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import InferenceConfig
from edge_agent.session import ModelSession
from edge_agent.trust import parse_manifest
from tests.edge_agent.publisher import make_manifest, make_model

SOURCE = Path(__file__).resolve().parents[2] / "edge_agent" / "native"
pytestmark = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("g++")), reason="needs make and g++"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("native")
    command = ["make", "-C", str(SOURCE), f"PYTHON={sys.executable}", f"OUT={out}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return out / "edge_infer"


def run(program: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_it_agrees_with_the_agent(program: Path, tmp_path: Path) -> None:
    data, row = make_model(), np.array([[0.5, -1.0, 2.0, 0.1]], dtype=np.float32)
    model, raw = tmp_path / "model.onnx", tmp_path / "input.raw"
    model.write_bytes(data)
    raw.write_bytes(row.tobytes())
    document = json.dumps(make_manifest({"model.onnx": ("model", data)})).encode()
    session = ModelSession(model, parse_manifest(document), InferenceConfig())
    answer = json.loads(run(program, model, "--input", raw, "--runs", 20).stdout)
    top = [(hit["class_id"], hit["confidence"]) for hit in answer["top_k"]]
    expected = [(class_id, chance) for class_id, _, chance in session.infer(row).top_k]
    assert [class_id for class_id, _ in top] == [class_id for class_id, _ in expected]
    assert [chance for _, chance in top] == pytest.approx([c for _, c in expected], abs=1e-5)


def test_it_names_what_is_wrong(program: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    assert run(program).returncode == 2
    assert run(program, bad).returncode == 3
    good = tmp_path / "good.onnx"
    good.write_bytes(make_model())
    assert run(program, good, "--input", bad).returncode == 2
    infinite = tmp_path / "infinite.onnx"
    infinite.write_bytes(make_model(bias=float("inf")))
    answer = run(program, infinite)
    assert answer.returncode == 3 and "not finite" in answer.stderr
