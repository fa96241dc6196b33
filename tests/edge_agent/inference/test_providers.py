"""Execution providers on the plain build: options, defaults, and what is said of absent ones.

`test_openvino.py` has the fallbacks that need a second provider.
"""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_agent.config import InferenceConfig, parse_config
from edge_agent.config.provider_options import DEFAULTS, OPTIONS, encode_options
from edge_agent.exceptions import ConfigurationError, InferenceError, ProviderError
from edge_agent.inference.libraries import explain_failure, find_missing, read_needed
from edge_agent.inference.loading import prune_cache
from edge_agent.inference.providers import NAMES, list_available, plan_providers
from edge_agent.inference.session import ModelSession
from edge_agent.releases.trust import Manifest, parse_manifest
from tests.edge_agent.publisher import make_manifest, make_model

MODEL_BYTES = make_model()
WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)[2, 1]
MANIFEST: Manifest = parse_manifest(
    json.dumps(make_manifest({"model.onnx": ("model", MODEL_BYTES)})).encode()
)
ABSENT = next(name for name in ("cuda", "rockchip") if name not in list_available())
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
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


EXACT: dict[str, tuple[tuple[str, ...], list[tuple[str, str]]]] = {
    "cuda": (("cuda", "cpu"), [("cuda", "not_in_build")]),
    "tensorrt before cuda": (
        ("tensorrt", "cuda", "cpu"),
        [("tensorrt", "not_in_build"), ("cuda", "not_in_build")],
    ),
    "rockchip alone": (("rockchip",), [("rockchip", "not_in_build")]),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_report_of_absent_accelerators_is_exact(name: str, model_path: Path) -> None:
    providers, fallbacks = EXACT[name]
    row = ModelSession(
        model_path, MANIFEST, InferenceConfig(providers=providers)
    ).providers.as_row()
    detail = f"the installed build has {', '.join(list_available())}"
    assert row == {
        "requested": list(providers),
        "active": ["cpu"],
        "nodes": {"cpu": 1},
        "fallbacks": [{"provider": p, "kind": k, "detail": detail} for p, k in fallbacks],
    }


def test_nvidia_providers_get_defaults_for_boards_and_a_folder_of_the_releases_own(
    tmp_path: Path,
) -> None:
    config = InferenceConfig(
        providers=("tensorrt", "cuda", "cpu"),
        provider_options={
            "cuda": {"gpu_mem_limit": "1048576"},
            "tensorrt": {"trt_fp16_enable": "1"},
        },
    )
    plan, missing = plan_providers(config, ["tensorrt", "cuda", "cpu"], cache=tmp_path / "d")
    assert missing == []
    assert plan == [
        (
            "TensorrtExecutionProvider",
            {
                "device_id": "0",
                "trt_engine_cache_enable": "1",
                "trt_timing_cache_enable": "1",
                "trt_max_workspace_size": str(1 << 30),
                "trt_fp16_enable": "1",
                "trt_engine_cache_path": str(tmp_path / "d" / "tensorrt"),
                "trt_timing_cache_path": str(tmp_path / "d" / "tensorrt"),
            },
        ),
        (
            "CUDAExecutionProvider",
            {
                "device_id": "0",
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": "1048576",
                "cudnn_conv_algo_search": "HEURISTIC",
                "do_copy_in_default_stream": "1",
            },
        ),
        ("CPUExecutionProvider", {}),
    ]


def test_tensorrt_without_a_folder_writes_no_engines_into_the_working_directory() -> None:
    ((_, options),) = plan_providers(
        InferenceConfig(providers=("tensorrt",), strict=True), ["tensorrt"]
    )[0]
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "0"


def test_the_optimised_graph_is_kept_by_its_digest_and_a_damaged_one_is_replaced(
    model_path: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "opt"
    cache.mkdir()
    first = ModelSession(model_path, MANIFEST, InferenceConfig(), cache=cache).infer(ROW)
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    assert kept.name.startswith(f"{MANIFEST.digest}-{onnxruntime.__version__}.")
    assert hashlib.sha256(content).hexdigest() in kept.name
    model_path.unlink()
    second = ModelSession(model_path, MANIFEST, InferenceConfig(), cache=cache).infer(ROW)
    assert (second.outputs[0] == first.outputs[0]).all(), "the kept graph alone serves"
    # One bit of a weight: the runtime would load it and answer wrongly.
    place = content.index(np.float32(WEIGHT).tobytes())
    kept.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    model_path.write_bytes(MODEL_BYTES)
    third = ModelSession(model_path, MANIFEST, InferenceConfig(), cache=cache).infer(ROW)
    assert (third.outputs[0] == first.outputs[0]).all()
    assert [entry.name for entry in cache.iterdir()] == [kept.name]
    assert kept.read_bytes() == content


def test_what_was_made_for_releases_that_are_gone_is_removed(tmp_path: Path) -> None:
    here, gone = "a" * 64, "b" * 64
    for digest in (here, gone):
        (tmp_path / f"{digest}-1.0.onnx").write_bytes(b"")
        (tmp_path / digest / "tensorrt").mkdir(parents=True)
    (tmp_path / f"{gone}.cwasm").write_bytes(b"")
    prune_cache(tmp_path, {here})
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == sorted([here, f"{here}-1.0.onnx", f"{gone}.cwasm"])


def load_inference(folder: Path, **inference: Any) -> InferenceConfig:
    agent = {"device_id": "d", "server_url": "http://s", "home": "h"}
    return parse_config({"agent": agent, "inference": inference}, base=folder).inference


def test_options_are_written_in_the_runtimes_words(tmp_path: Path) -> None:
    given = {
        "cuda": {"device_id": 1, "gpu_mem_limit": 1 << 30, "use_tf32": False},
        "openvino": {"device_type": "HETERO:GPU.1,CPU", "enable_opencl_throttling": True},
        "coreml": {"MLComputeUnits": "CPUAndNeuralEngine"},
    }
    assert load_inference(tmp_path, provider_options=given).provider_options == {
        "cuda": {"device_id": "1", "gpu_mem_limit": str(1 << 30), "use_tf32": "0"},
        "openvino": {"device_type": "HETERO:GPU.1,CPU", "enable_opencl_throttling": "true"},
        "coreml": {"MLComputeUnits": "CPUAndNeuralEngine"},
    }


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown provider": ({"providers": ["gpu"]}, "providers: expected some of"),
    "no provider": ({"providers": []}, "providers: expected some of"),
    "options of an unknown provider": (
        {"provider_options": {"gpu": {}}},
        "unknown provider gpu",
    ),
    "unknown option": (
        {"provider_options": {"cuda": {"memory_limit": 1}}},
        "cuda has no option memory_limit",
    ),
    "option of another provider": (
        {"provider_options": {"cuda": {"trt_fp16_enable": True}}},
        "cuda has no option trt_fp16_enable",
    ),
    "any option of the cpu": (
        {"provider_options": {"cpu": {"threads": 1}}},
        "cpu has no option threads; it has none",
    ),
    "an address in memory": (
        {"provider_options": {"cuda": {"user_compute_stream": 1}}},
        "cuda has no option user_compute_stream",
    ),
    "no flag": (
        {"provider_options": {"tensorrt": {"trt_fp16_enable": "yes"}}},
        "trt_fp16_enable: expected true or false, got 'yes'",
    ),
    "out of range": (
        {"provider_options": {"tensorrt": {"trt_builder_optimization_level": 9}}},
        "expected a whole number from 0 to 5, got 9",
    ),
    "no number": (
        {"provider_options": {"cuda": {"device_id": "first"}}},
        "expected a whole number from 0 to 255, got 'first'",
    ),
    "no such word": (
        {"provider_options": {"cuda": {"cudnn_conv_algo_search": "FAST"}}},
        "expected one of EXHAUSTIVE, HEURISTIC, DEFAULT, got 'FAST'",
    ),
    "no such device": (
        {"provider_options": {"openvino": {"device_type": "TPU"}}},
        "device_type: expected CPU, GPU, NPU",
    ),
    "no table": ({"provider_options": {"cuda": 1}}, "cuda: expected a table"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_settings_is_told_when_they_are_read(name: str, tmp_path: Path) -> None:
    inference, message = MISTAKES[name]
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        load_inference(tmp_path, **inference)


def test_every_provider_has_options_and_defaults_that_are_valid() -> None:
    assert set(OPTIONS) == set(NAMES)
    for provider, options in DEFAULTS.items():
        assert encode_options(provider, options) == options


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_the_libraries_that_a_library_lacks_are_all_named(tmp_path: Path) -> None:
    """Compiled here: one that needs two others, of which one needs a third; two are taken away."""
    for name, needs in (("third", ""), ("second", "-lthird"), ("other", "")):
        compile_library(tmp_path, name, needs)
    compile_library(tmp_path, "provider", "-lsecond -lother")
    provider = tmp_path / "libprovider.so"
    assert read_needed(provider)[:2] == ["libsecond.so", "libother.so"]
    assert find_missing(provider) == []
    (tmp_path / "libthird.so").unlink()
    (tmp_path / "libother.so").unlink()
    assert find_missing(provider) == ["libother.so", "libthird.so"]
    assert explain_failure(provider) == "missing libraries: libother.so, libthird.so"


def compile_library(folder: Path, name: str, needs: str) -> None:
    assert COMPILER is not None
    source = folder / f"{name}.c"
    source.write_text(f"int {name}(void) {{ return 1; }}\n")
    output = folder / f"lib{name}.so"
    command = [COMPILER, "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", str(output), str(source)]
    subprocess.run([*command, f"-L{folder}", f"-Wl,-rpath,{folder}", *needs.split()], check=True)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh", b"\x7fELF\x02\x01" + b"\xff" * 200])
def test_what_is_no_library_needs_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.so"
    path.write_bytes(content)
    assert read_needed(path) == []
    assert explain_failure(path) != ""


def test_a_wrong_shape_is_an_inference_error(model_path: Path) -> None:
    with pytest.raises(InferenceError):
        ModelSession(model_path, MANIFEST, InferenceConfig()).infer(ROW[:, :2])


def test_scores_that_are_not_finite_are_no_class(model_path: Path) -> None:
    result = ModelSession(model_path, MANIFEST, InferenceConfig()).infer(ROW * np.nan)
    assert (result.error, result.class_id, result.confidence) == ("non_finite", None, None)
