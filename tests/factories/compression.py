"""Small convolutional models with a fitted head, data that they classify, and jobs."""

import io
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

CLASSES = 4
SIDE = 12


def make_samples(count: int, seed: int, noise: float = 0.5) -> tuple[NDArray, NDArray]:
    """Noisy copies of one pattern per class: x [N, 1, 12, 12] float32 and y [N]."""
    patterns = np.random.default_rng(7).normal(size=(CLASSES, 1, SIDE, SIDE))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    noisy = patterns[labels] + noise * generator.normal(size=(count, 1, SIDE, SIDE))
    return noisy.astype(np.float32), labels


def pack_npz(**arrays: NDArray) -> bytes:
    """The bytes of an npz file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def make_model(
    channels: tuple[int, int, int] = (16, 32, 32), *, batch: int | str = "N", seed: int = 0
) -> onnx.ModelProto:
    """conv-BN-ReLU, a residual block, a strided conv and a linear head fitted to the patterns."""
    generator = np.random.default_rng(seed)
    first, second, third = channels
    weights: dict[str, NDArray] = {}
    nodes: list[Any] = []

    def conv(source: str, out: str, into: int, outof: int, stride: int = 1) -> None:
        scale = np.sqrt(2.0 / (into * 9))
        weights[f"{out}_w"] = generator.normal(0, scale, (outof, into, 3, 3)).astype(np.float32)
        weights[f"{out}_b"] = generator.normal(0, 0.05, outof).astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{out}_w", f"{out}_b"],
                [out],
                pads=[1, 1, 1, 1],
                strides=[stride, stride],
            )
        )

    conv("x", "a", 1, first)
    for name, value in (("s", 1.0), ("o", 0.0), ("m", 0.1), ("v", 0.9)):
        weights[f"bn_{name}"] = np.full(first, value, np.float32)
    nodes.append(
        helper.make_node("BatchNormalization", ["a", "bn_s", "bn_o", "bn_m", "bn_v"], ["n"])
    )
    nodes.append(helper.make_node("Relu", ["n"], ["ar"]))
    conv("ar", "b", first, second, 2)
    nodes.append(helper.make_node("Relu", ["b"], ["br"]))
    conv("br", "c", second, second)
    nodes.append(helper.make_node("Add", ["c", "br"], ["sum"]))
    nodes.append(helper.make_node("Relu", ["sum"], ["sr"]))
    conv("sr", "d", second, third, 2)
    nodes.append(helper.make_node("Relu", ["d"], ["dr"]))
    nodes.append(helper.make_node("Flatten", ["dr"], ["flat"]))
    width = third * (SIDE // 4) ** 2
    weights["head_w"] = np.zeros((CLASSES, width), np.float32)
    weights["head_b"] = np.zeros(CLASSES, np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "head_w", "head_b"], ["logits"], transB=1))
    x, y = make_samples(400, seed=1)
    features = run_model(build(nodes, weights, ("flat", width), 400), x)
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    target = 8.0 * np.eye(CLASSES)[y] - 4.0
    gram = design.T @ design + 1.0 * np.eye(design.shape[1])
    solution = np.linalg.solve(gram, design.T @ target)
    weights["head_w"] = solution[:-1].T.astype(np.float32)
    weights["head_b"] = solution[-1].astype(np.float32)
    return build(nodes, weights, ("logits", CLASSES), batch)


def make_bomb(copies: int = 5000) -> onnx.ModelProto:
    """A linear classifier of a few kilobytes that wants `copies` × 576 bytes for every sample."""
    weights = {
        "copies": np.array([1, copies, 1, 1], np.int64),
        "w": np.random.default_rng(0).normal(size=(CLASSES, SIDE * SIDE)).astype(np.float32),
        "b": np.zeros(CLASSES, np.float32),
    }
    nodes = [
        helper.make_node("Tile", ["x", "copies"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["mean"], axes=[1]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
    ]
    return build(nodes, weights, ("logits", CLASSES), "N")


def build(
    nodes: list[Any],
    weights: dict[str, NDArray],
    output: tuple[str, int],
    batch: int | str,
    shape: tuple[int, ...] = (1, SIDE, SIDE),
) -> onnx.ModelProto:
    """A checked model of nodes and weights with input `x` and one output."""
    name, width = output
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, width])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def run_model(model: onnx.ModelProto, x: NDArray) -> NDArray:
    """The first output."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def run_outputs(model: onnx.ModelProto, x: NDArray) -> list[NDArray]:
    """All outputs."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def make_version(**over: Any) -> Any:
    """A ready version of a small model, or of `content`, made by the registry's own services."""
    from registry.services import datasets, models, versions
    from registry.services.uploads import upload_version

    slug = over.pop("slug", "shapes")
    content = over.pop("content", None)
    model = models.create_model(
        slug=slug, actor="tester", labels=[str(index) for index in range(CLASSES)]
    )
    x, y = make_samples(600, seed=2)
    evaluation = datasets.register_dataset(
        model_slug=slug,
        name="held-out",
        kind="evaluation",
        stream=io.BytesIO(pack_npz(x=x, y=y)),
        actor="tester",
    )
    x, y = make_samples(300, seed=3)
    datasets.register_dataset(
        model_slug=slug,
        name="calibration",
        kind="calibration",
        stream=io.BytesIO(pack_npz(x=x, y=y)),
        actor="tester",
    )
    content = content or make_model(**over).SerializeToString()
    version = upload_version(
        model_slug=model.slug,
        version="1.0.0",
        files=[("model.onnx", io.BytesIO(content), None)],
        actor="tester",
        dataset=evaluation,
    )
    version = versions.validate_version(version_id=version.pk)
    assert version.state == "ready", version.rejection_reason
    return version


def make_job(version: Any, **over: Any) -> Any:
    """A queued job of the static INT8 preset."""
    from compression.services.jobs import create_job

    sets = {dataset.kind: dataset for dataset in version.model.datasets.all()}
    recipe = {"data": {"min_calibration": 100}, "limits": {"wall_seconds": 120}}
    values: dict[str, Any] = {
        "version": version,
        "preset": "static-int8",
        "recipe": recipe,
        "calibration_dataset": sets["calibration"],
        "evaluation_dataset": sets["evaluation"],
        "actor": "tester",
    }
    return create_job(**{**values, **over})
