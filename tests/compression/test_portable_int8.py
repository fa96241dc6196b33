"""The default INT8 form: no processor's kernels saturate on it."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper

from compression.engine.passes.paired_range import list_overrides, pair_ranges
from compression.measure.samples import Samples
from compression.recipe.presets import PRESETS
from compression.recipe.recipe import Target, parse_recipe
from tests.factories.compression import make_model, make_samples
from tests.factories.passes import run_pass

# 255 * 128 = 32640 is the largest multiple of 255 below 2 ** 15.
MAX_PAIR = 128


def sums_of_pairs(weight):
    """Sums of two weights of one sign, by output channel of [M, C, ...], channels innermost."""
    order = np.moveaxis(weight.astype(np.int64), 1, -1).reshape(len(weight), -1)
    order = np.pad(order, ((0, 0), (0, order.shape[1] % 2)))
    return [
        (np.maximum(sign * order[:, 0::2], 0) + np.maximum(sign * order[:, 1::2], 0)).max()
        for sign in (1, -1)
    ]


def quantize(tmp_path, model, name="quantize.static", target=None, **parameters):
    x, y = make_samples(128, seed=11)
    result, path = run_pass(
        name,
        model,
        tmp_path,
        parameters=parameters,
        target=target or Target(),
        calibration=Samples({"x": x}, y),
    )
    return result, onnx.load(str(path))


def same_signed_model():
    """Weights of one sign and one size: every pair would saturate."""
    model = make_model()
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            value = np.abs(numpy_helper.to_array(tensor))
            value = np.full_like(value, value.mean()) * (1 + 1e-3 * value)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def answers(model, x, *, is_widened):
    """The answers; widened, products are summed in 32 bits whatever the processor."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", str(int(is_widened)))
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_presets_and_recipes_are_portable_unless_they_say_otherwise():
    for preset in PRESETS.values():
        assert parse_recipe(preset.recipe).target.isa == "portable"


@settings(deadline=None, max_examples=60)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
        elements=st.floats(-4, 4, width=32),
    )
)
def test_weights_scaled_by_the_range_of_pairs_never_sum_beyond_16_bits(weight):
    ranges = pair_ranges(weight, 0)
    assert (ranges >= np.abs(weight).reshape(len(weight), -1).max(axis=1) - 1e-6).all()
    scale = np.where(ranges > 0, ranges / 127, 1.0).reshape(-1, 1, 1, 1)
    assert max(sums_of_pairs(np.rint(weight / scale))) <= MAX_PAIR


def test_the_range_follows_the_axis_of_the_output_channels():
    weight = np.array([[1.0, 2.0, -3.0], [4.0, -5.0, 6.0]])
    assert list(pair_ranges(weight, 0)) == [3.0, 6.0]
    assert list(pair_ranges(weight, 1)) == [5.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("per_channel", "form"), list(itertools.product([True, False], ["qoperator", "qdq"]))
)
def test_static_int8_has_no_pair_that_saturates(per_channel, form, tmp_path):
    _, model = quantize(
        tmp_path, same_signed_model(), per_channel=per_channel, format=form, first_layer="int8"
    )
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [value for value in weights if value.dtype == np.int8 and value.ndim > 1]
    assert len(weights) == 5
    for weight in weights:
        assert max(sums_of_pairs(weight)) <= MAX_PAIR
    # The range is used: a fixed 7 bits would end at 64.
    assert max(np.abs(weight).max() for weight in weights) > 64


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("quantize.static", {}),
        ("quantize.dynamic", {"weight": "qint8"}),
        ("quantize.dynamic", {"weight": "quint8"}),
        ("mixed.search", {"max_drop_points": 100.0}),
    ],
)
def test_products_are_the_same_summed_in_16_and_in_32_bits(name, parameters, tmp_path):
    _, model = quantize(tmp_path, same_signed_model(), name, **parameters)
    x, _ = make_samples(64, seed=2, noise=3.0)
    narrow, wide = (answers(model, x, is_widened=wide) for wide in (False, True))
    assert np.array_equal(narrow, wide)


def test_a_weight_that_another_operator_reads_too_keeps_the_halved_range():
    model = make_model()
    known = list_overrides(model, is_per_channel=True)
    assert {"b_w", "head_w"} <= set(known)
    assert [len(known[name]) for name in ("b_w", "head_w")] == [32, 4]
    assert not {"b_b", "head_b"} & set(known)
    model.graph.node.append(onnx.helper.make_node("Abs", ["b_w"], ["other"]))
    assert "b_w" not in list_overrides(model, is_per_channel=True)
