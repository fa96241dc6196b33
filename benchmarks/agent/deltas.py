"""How small an update is when only the head of a model was trained again."""

import itertools
import time
from pathlib import Path

import numpy as np
import onnx
from backports import zstd
from onnx import TensorProto, helper, numpy_helper

from benchmarks.agent.figures import Figure
from edge_agent.install.delta import apply_patch
from registry.patches import make_patch

FEATURES, WIDTHS, CLASSES = 256, (640, 640, 128), 10


def measure(folder: Path) -> list[Figure]:
    """The patch in percent of the full file; the full file compressed as it is, beside it."""
    rng = np.random.default_rng(0)
    body = make_weights(rng)
    old = make_network(body, make_head(rng))
    new = make_network(body, make_head(rng))
    started = time.perf_counter()
    patch = make_patch(old, new)
    made_ms = 1000 * (time.perf_counter() - started)
    started = time.perf_counter()
    if apply_patch(old, patch, size_bytes=len(new)) != new:
        raise RuntimeError("the patch makes another file")
    applied_ms = 1000 * (time.perf_counter() - started)
    whole = len(zstd.compress(new))
    return [
        Figure(
            "delta_head_only_percent",
            100 * len(patch) / len(new),
            "%",
            f"{len(patch):,} of {len(new):,} bytes; zstd without the old model "
            f"{100 * whole / len(new):.0f} %; made in {made_ms:.0f} ms, applied in "
            f"{applied_ms:.0f} ms",
            2.0,
        )
    ]


def make_weights(rng: np.random.Generator) -> list[np.ndarray]:
    sizes = (FEATURES, *WIDTHS)
    return [rng.normal(0, 0.05, size=pair).astype(np.float32) for pair in itertools.pairwise(sizes)]


def make_head(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.05, size=(WIDTHS[-1], CLASSES)).astype(np.float32)


def make_network(body: list[np.ndarray], head: np.ndarray) -> bytes:
    """Dense layers, so that nearly every byte of the file is a weight; about 2.6 MB."""
    nodes, tensors, name = [], [], "input"
    for index, weights in enumerate([*body, head]):
        tensors.append(numpy_helper.from_array(weights, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{index}"], [f"x{index}"]))
        name = f"x{index}"
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
