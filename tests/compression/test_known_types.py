"""What is stated of tensors that ONNX's own inference knows nothing of."""

import numpy as np
import onnx
from onnx import helper

from compression.engine.passes.known_types import state_types
from compression.measure.sessions import open_session
from tests.factories import exports


def test_a_type_is_stated_without_a_shape_that_nobody_knows(tmp_path):
    # Read as a scalar, it made ONNX Runtime refuse the product behind every scikit-learn scaler.
    content = exports.model_of(
        [
            helper.make_node(
                "Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", scale=[2.0], offset=[0.0]
            ),
            helper.make_node("MatMul", ["scaled", "W"], ["y"]),
        ],
        [exports.value("x", exports.FLOAT, ["batch", 4])],
        [exports.value("y", exports.FLOAT, ["batch", 3])],
        [exports.tensor("W", np.ones((4, 3)))],
    )
    source = tmp_path / "model.onnx"
    source.write_bytes(content)
    stated = state_types(source, tmp_path / "stated.onnx")
    item = next(i for i in onnx.load(str(stated)).graph.value_info if i.name == "scaled")
    assert item.type.tensor_type.elem_type == exports.FLOAT
    assert not item.type.tensor_type.HasField("shape")
    (answer,) = open_session(stated).run(None, {"x": np.ones((2, 4), np.float32)})
    assert answer.tolist() == [[8.0] * 3] * 2
