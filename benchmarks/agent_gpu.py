"""NVIDIA's providers on this machine: selection, node assignment and latency beside the CPU.

`make bench-agent-gpu` runs it with the project's interpreter. On a machine with a GPU give one that
has `benchmarks/requirements-gpu.txt` installed: `make bench-agent-gpu GPU_PYTHON=path/to/python`. A
machine without a GPU is told so plainly, with what the providers lack, and that is no failure. The
last line is JSON.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edge_agent.config import InferenceConfig
from edge_agent.exceptions import AgentError
from edge_agent.inference.bench import compare_providers, format_table
from edge_agent.inference.providers import check_provider, list_available
from edge_agent.inference.session import ModelSession
from edge_agent.releases.trust import Manifest, ManifestFile

PROVIDERS = ("tensorrt", "cuda", "cpu")
CHANNELS, BLOCKS, SIDE, CLASSES = 64, 8, 112, 10


def main() -> int:
    gpus = list_gpus()
    available = list_available()
    obstacles = {name: check_provider(name, available) for name in PROVIDERS}
    with tempfile.TemporaryDirectory(prefix="agent-gpu-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(make_network())
        manifest = make_manifest(path)
        cache = Path(folder) / "opt"
        cache.mkdir()
        rows = compare_providers(
            lambda inference: ModelSession(path, manifest, inference, cache=cache),
            InferenceConfig(),
            providers=PROVIDERS,
            threads=(1,),
            runs=500,
            seconds=10.0,
        )
        strict = {name: try_strict(path, manifest, name) for name in PROVIDERS}
    print(f"onnxruntime {onnxruntime.__version__} with {', '.join(available)}")
    print("GPU: " + ("; ".join(gpus) or "none on this machine: the rows below ran on the CPU"))
    for name, obstacle in obstacles.items():
        print(f"{name}: {obstacle or 'in the build, and its library loads'}")
    print(format_table(rows))
    for name, outcome in strict.items():
        print(f"strict {name}: {outcome}")
    document = {
        "gpus": gpus,
        "has_gpu": bool(gpus),
        "onnxruntime": onnxruntime.__version__,
        "available": available,
        "obstacles": obstacles,
        "rows": rows,
        "strict": strict,
    }
    print(json.dumps(document))
    return 0


def list_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver lists."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip()]


def try_strict(path: Path, manifest: Manifest, provider: str) -> str:
    """What strict mode says to `provider` alone."""
    config = InferenceConfig(providers=(provider,), strict=True)
    try:
        report = ModelSession(path, manifest, config).providers
    except AgentError as error:
        return f"refused, {error.code}: {error}"
    return f"runs on {'+'.join(report.active)}, nodes {report.nodes}"


def make_manifest(path: Path) -> Manifest:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    file = ManifestFile("model.onnx", "model", digest, len(data))
    return Manifest(digest, "bench", "1.0.0", "fp32", 1, (file,), {})


def make_network() -> bytes:
    """Residual blocks of 3 × 3 convolutions over 112 × 112: some 7.4 GFLOP, 1.2 MB."""
    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    tensors: list[Any] = []

    def add_convolution(source: str, target: str, channels: int) -> None:
        scale = np.sqrt(2 / (9 * channels))
        weights = rng.normal(0, scale, (CHANNELS, channels, 3, 3)).astype(np.float32)
        tensors.append(numpy_helper.from_array(weights, f"w_{target}"))
        nodes.append(
            helper.make_node("Conv", [source, f"w_{target}"], [f"c_{target}"], pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"c_{target}"], [target]))

    add_convolution("input", "x0", 3)
    for index in range(BLOCKS):
        add_convolution(f"x{index}", f"y{index}", CHANNELS)
        nodes.append(helper.make_node("Add", [f"x{index}", f"y{index}"], [f"x{index + 1}"]))
    head = rng.normal(0, 0.1, (CHANNELS, CLASSES)).astype(np.float32)
    tensors.append(numpy_helper.from_array(head, "w_head"))
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{BLOCKS}"], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "w_head"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    sys.exit(main())
