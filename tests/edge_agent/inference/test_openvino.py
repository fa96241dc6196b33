"""A real second provider: the agent's code on ONNX Runtime's build with OpenVINO.

It runs in an interpreter of its own (`make .venv-openvino`), for both builds bring one module.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.edge_agent.publisher import make_manifest, make_model
from tests.edge_agent.releases import make_session

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHON = REPOSITORY / ".venv-openvino" / "bin" / "python"
ROW = [[1.0, -2.0, 3.0, 0.5]]
Ask = Callable[..., dict[str, Any]]

HAS_WHEEL = platform.machine() == "x86_64" and sys.version_info < (3, 14)
pytestmark = [
    pytest.mark.skipif(not HAS_WHEEL, reason="no OpenVINO wheel for this machine and Python"),
    pytest.mark.skipif(
        not PYTHON.exists() and not os.environ.get("CI"), reason="run `make .venv-openvino` first"
    ),
]


def make_mixed_model() -> bytes:
    """Relu and Gemm, which OpenVINO takes, and a Unique, which it does not."""
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["input"], ["positive"], name="first"),
            helper.make_node("Gemm", ["positive", "w"], ["scores"], name="second"),
            helper.make_node("Unique", ["scores"], ["logits"], name="third", sorted=1),
        ],
        "mixed",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["some"])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Loads a model over there and returns what runs it."""

    def ask(model: bytes, *, site: Path | None = None, **inference: Any) -> dict[str, Any]:
        manifest = make_manifest({"model.onnx": ("model", model)})
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        (tmp_path / "model.onnx").write_bytes(model)
        (tmp_path / "opt").mkdir(exist_ok=True)
        request = {
            "inference": {"providers": ["openvino", "cpu"], **inference},
            "manifest": str(tmp_path / "manifest.json"),
            "model": str(tmp_path / "model.onnx"),
            "cache": str(tmp_path / "opt"),
            "row": ROW,
        }
        path = [str(site)] if site else []
        child = subprocess.run(
            [PYTHON, "-m", "tests.edge_agent.other_runtime"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(REPOSITORY)])},
        )
        assert child.returncode == 0, child.stderr
        answer: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        return answer

    return ask


@pytest.fixture
def broken_site(tmp_path: Path) -> Path:
    """A site-packages whose runtime lacks one library that the provider needs."""
    (package,) = (PYTHON.parent.parent / "lib").glob("python3*/site-packages/onnxruntime")
    site = tmp_path / "site"
    shutil.copytree(package, site / "onnxruntime", copy_function=os.symlink)
    capi = site / "onnxruntime" / "capi"
    for name in ("libonnxruntime_providers_openvino.so", "libopenvino_onnx_frontend.so.2541"):
        # Libraries are looked for beside the file itself, not beside a link to it.
        (capi / name).unlink()
        shutil.copy(package / "capi" / name, capi / name)
    for library in capi.glob("libopenvino.so*"):
        library.unlink()
    return site


def test_openvino_runs_every_node_and_answers_like_the_cpu(ask: Ask, tmp_path: Path) -> None:
    report = ask(make_model())
    assert report["requested"] == ["openvino", "cpu"]
    assert report["active"][0] == "openvino"
    assert report["nodes"] == {"openvino": 1}, "Identity is optimised away, Gemm is left"
    assert report["fallbacks"] == []
    here = make_session(tmp_path, make_model()).infer(np.asarray(ROW, dtype=np.float32))
    assert report["outputs"] == pytest.approx(here.outputs[0], abs=1e-5)


def test_strict_runs_where_openvino_takes_the_whole_graph(ask: Ask) -> None:
    report = ask(make_model(), providers=["openvino"], strict=True)
    assert report["fallbacks"] == []


def test_what_openvino_compiled_is_kept_with_the_release(ask: Ask) -> None:
    (blob,) = ask(make_model())["cached"]
    digest, provider, _ = blob.split("/")
    assert (len(digest), provider) == (64, "openvino")


def test_the_part_of_a_graph_on_the_cpu_is_counted_and_named(ask: Ask) -> None:
    report = ask(make_mixed_model())
    assert report["nodes"] == {"openvino": 2, "cpu": 1}
    (fallback,) = report["fallbacks"]
    assert (fallback["provider"], fallback["kind"]) == ("openvino", "partial")
    assert fallback["detail"] == "1 of 3 nodes run on the CPU: third (Unique)"


def test_a_library_that_does_not_load_is_found_and_what_it_lacks_is_named(
    ask: Ask, broken_site: Path
) -> None:
    report = ask(make_model(), site=broken_site)
    assert report["active"] == ["cpu"]
    (fallback,) = report["fallbacks"]
    assert (fallback["provider"], fallback["kind"]) == ("openvino", "library_failed")
    assert fallback["detail"] == "missing libraries: libopenvino.so.2541"
    assert len(report["outputs"][0]) == 3, "the CPU serves meanwhile"


def test_a_device_that_is_not_there_is_a_refusal(ask: Ask) -> None:
    options = {"openvino": {"device_type": "GPU.99"}}
    report = ask(make_model(), provider_options=options)
    assert report["active"] == ["cpu"]
    assert [row["kind"] for row in report["fallbacks"]] == ["refused"]


STRICT: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "part of the graph on the CPU": (make_mixed_model(), {}, "openvino: "),
    "part of it, with the CPU allowed": (
        make_mixed_model(),
        {"providers": ["openvino", "cpu"]},
        "openvino: partial: 1 of 3 nodes",
    ),
    "a device that is not there": (
        make_model(),
        {"provider_options": {"openvino": {"device_type": "GPU.99"}}},
        "openvino: refused",
    ),
    "a provider that the build lacks": (
        make_model(),
        {"providers": ["cuda", "openvino"]},
        "cuda: not_in_build: the installed build has openvino, cpu",
    ),
}


@pytest.mark.parametrize("name", STRICT)
def test_strict_refuses_every_fallback(name: str, ask: Ask) -> None:
    model, settings, message = STRICT[name]
    answer = ask(model, **{"providers": ["openvino"], "strict": True, **settings})
    assert answer["error"] == "provider_missing"
    assert answer["message"].startswith(message)


def test_strict_refuses_a_broken_library_by_name(ask: Ask, broken_site: Path) -> None:
    answer = ask(make_model(), site=broken_site, providers=["openvino"], strict=True)
    assert answer["error"] == "provider_missing"
    expected = "openvino: library_failed: missing libraries: libopenvino.so.2541"
    assert answer["message"] == expected


def test_a_model_that_nothing_loads_is_the_models_fault_in_strict_mode_too(ask: Ask) -> None:
    answer = ask(b"no model", providers=["openvino"], strict=True)
    assert answer["error"] == "inference_failed"
