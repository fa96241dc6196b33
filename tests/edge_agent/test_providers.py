"""The three kinds of silent fallback, with the real runtime where it can show them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_agent.config import InferenceConfig
from edge_agent.exceptions import InferenceError, ProviderError
from edge_agent.providers import Fallback, inspect_session, list_available, plan_providers
from edge_agent.session import ModelSession
from edge_agent.trust import Manifest, parse_manifest
from tests.edge_agent.publisher import make_manifest, make_model

MODEL_BYTES = make_model()
MANIFEST: Manifest = parse_manifest(
    json.dumps(make_manifest({"model.onnx": ("model", MODEL_BYTES)})).encode()
)
ABSENT = next(name for name in ("cuda", "rockchip") if name not in list_available())
ROW = np.ones((1, 4), dtype=np.float32)


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(MODEL_BYTES)
    return path


def test_a_provider_that_the_build_lacks_is_reported_and_the_cpu_serves(model_path: Path) -> None:
    session = ModelSession(model_path, MANIFEST, InferenceConfig(providers=(ABSENT, "cpu")))
    assert [(f.provider, f.kind) for f in session.providers.fallbacks] == [(ABSENT, "not_in_build")]
    assert session.providers.active == ("cpu",)
    assert session.infer(ROW).class_id is not None


@pytest.mark.parametrize("providers", [(ABSENT,), (ABSENT, "cpu")])
def test_strict_refuses_to_run_without_the_provider(
    model_path: Path, providers: tuple[str, ...]
) -> None:
    with pytest.raises(ProviderError):
        ModelSession(model_path, MANIFEST, InferenceConfig(providers=providers, strict=True))


def test_strict_with_the_cpu_asked_for_runs(model_path: Path) -> None:
    session = ModelSession(model_path, MANIFEST, InferenceConfig(strict=True))
    assert session.providers.fallbacks == ()


def test_an_unknown_provider_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ProviderError, match="unknown"):
        plan_providers(InferenceConfig(providers=("gpu",)), ["cpu"])


def test_strict_lists_no_cpu_unless_asked_for() -> None:
    config = InferenceConfig(providers=("openvino",), strict=True)
    planned, missing = plan_providers(config, ["openvino", "cpu"])
    assert [name for name, _ in planned] == ["OpenVINOExecutionProvider"]
    assert missing == []


@dataclass
class FakePart:
    ep_name: str
    nodes: int

    def get_nodes(self) -> list[int]:
        return [0] * self.nodes


@dataclass
class FakeSession:
    active: list[str]
    parts: list[FakePart]

    def get_providers(self) -> list[str]:
        return self.active

    def get_provider_graph_assignment_info(self) -> list[FakePart]:
        return self.parts


CPU, OPENVINO = "CPUExecutionProvider", "OpenVINOExecutionProvider"
KINDS: dict[str, tuple[FakeSession, list[str]]] = {
    "all on the provider": (FakeSession([OPENVINO, CPU], [FakePart(OPENVINO, 9)]), []),
    "its library failed": (FakeSession([CPU], [FakePart(CPU, 9)]), ["library_failed"]),
    "partly on the CPU": (
        FakeSession([OPENVINO, CPU], [FakePart(OPENVINO, 7), FakePart(CPU, 2)]),
        ["partial"],
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_runs_is_compared_with_what_was_asked_for(name: str) -> None:
    session, kinds = KINDS[name]
    report = inspect_session(session, InferenceConfig(providers=("openvino",)), [])
    assert [fallback.kind for fallback in report.fallbacks] == kinds


def test_a_missing_provider_is_reported_once() -> None:
    missing = [Fallback("openvino", "not_in_build", "")]
    config = InferenceConfig(providers=("openvino",))
    report = inspect_session(FakeSession([CPU], []), config, missing)
    assert len(report.fallbacks) == 1


def test_the_optimised_graph_is_cached_and_a_damaged_one_is_replaced(
    model_path: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "opt"
    cache.mkdir()
    first = ModelSession(model_path, MANIFEST, InferenceConfig(), cache=cache).infer(ROW)
    (cached,) = cache.iterdir()
    assert onnxruntime.__version__ in cached.name
    second = ModelSession(model_path, MANIFEST, InferenceConfig(), cache=cache).infer(ROW)
    assert second.top_k == first.top_k
    cached.write_bytes(b"damaged")
    third = ModelSession(model_path, MANIFEST, InferenceConfig(), cache=cache).infer(ROW)
    assert third.top_k == first.top_k


def test_a_wrong_shape_is_an_inference_error(model_path: Path) -> None:
    with pytest.raises(InferenceError):
        ModelSession(model_path, MANIFEST, InferenceConfig()).infer(ROW[:, :2])


def test_scores_that_are_not_finite_are_no_class(model_path: Path) -> None:
    result = ModelSession(model_path, MANIFEST, InferenceConfig()).infer(ROW * np.nan)
    assert (result.error, result.class_id, result.confidence) == ("non_finite", None, None)
