"""Makers of registry rows, through the services that make them in earnest."""

import io
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from registry.models import DataSet, Model, Version
from registry.services.datasets import register_dataset
from registry.services.models import create_model
from registry.services.versions import transition_version, upload_version, validate_version

_numbers = count(1)
FEATURES = 4
CLASSES = 3


def make_model(**over: Any) -> Model:
    """A model with three classes."""
    fields: dict[str, Any] = {
        "slug": f"model-{next(_numbers)}",
        "labels": ["a", "b", "c"],
        "actor": "tester",
    }
    return create_model(**{**fields, **over})


def make_graph(
    *,
    classes: int = CLASSES,
    features: int = FEATURES,
    scale: float = 1.0,
    domain: str = "",
    external: str | None = None,
    external_length: int | None = None,
) -> onnx.ModelProto:
    """A linear classifier `logits = x W` with a batch axis of free size."""
    weights = (np.eye(features, classes, dtype=np.float32) * scale).astype(np.float32)
    tensor = numpy_helper.from_array(weights, "W")
    if external is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        length = weights.nbytes if external_length is None else external_length
        for key, value in (("location", external), ("offset", "0"), ("length", str(length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "W"], ["logits"], domain=domain)],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [tensor],
    )
    opsets = [helper.make_opsetid("", 17)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def make_onnx(**over: Any) -> bytes:
    """The bytes of `make_graph`."""
    data: bytes = make_graph(**over).SerializeToString()
    return data


def make_weights(scale: float = 1.0) -> bytes:
    """The external data that `make_graph(external=...)` refers to."""
    return (np.eye(FEATURES, CLASSES, dtype=np.float32) * scale).astype(np.float32).tobytes()


def make_npz(rows: int = 64, seed: int = 1, **arrays: Any) -> bytes:
    """An evaluation set of which the linear classifier gets every row right."""
    x = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    data = io.BytesIO()
    np.savez(data, **{"x": x, "y": x[:, :CLASSES].argmax(axis=1), **arrays})
    return data.getvalue()


def make_dataset(model: Model, **over: Any) -> DataSet:
    """A registered evaluation set."""
    fields: dict[str, Any] = {
        "model_slug": model.slug,
        "name": f"set-{next(_numbers)}",
        "kind": "evaluation",
        "stream": io.BytesIO(make_npz()),
        "actor": "tester",
    }
    return register_dataset(**{**fields, **over})


def make_upload(model: Model | None = None, data: bytes | None = None, **over: Any) -> Version:
    """A version in the state validating."""
    model = model or make_model()
    number = next(_numbers)
    fields: dict[str, Any] = {
        "model_slug": model.slug,
        "version": f"1.{number}.0",
        "files": [
            ("model.onnx", io.BytesIO(make_onnx(scale=number) if data is None else data), None)
        ],
        "actor": "tester",
    }
    return upload_version(**{**fields, **over})


def make_version(model: Model | None = None, *, state: str = "approved", **over: Any) -> Version:
    """A validated version with a signed variant, in the state ready or approved."""
    version = validate_version(version_id=make_upload(model, **over).pk)
    assert version.state == "ready", version.rejection_reason
    if state != "ready":
        version = transition_version(
            version_id=version.pk, to=state, actor="tester", reason="a test"
        )
    return version
