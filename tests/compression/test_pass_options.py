"""Every option of the passes that need no training, on real graphs: loads, runs, stays close."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from compression.engine.passes.prepare import prepare_file
from compression.measure.samples import Samples, input_specs, load_samples
from compression.measure.sessions import open_session, run_samples
from compression.measure.statistics import relative_error
from tests.factories.passes import run_pass
from tests.factories.topologies import TOPOLOGIES, GraphMaker

DEMO = Path(__file__).resolve().parent.parent.parent / "demo" / "data"
MODELS = ("digits", "residual", "depthwise", "squeeze_excite", "token_mixing", "transposed")

STATIC = {
    f"static {layout} {'symmetric' if symmetric else 'asymmetric'} {shape}": (
        "quantize.static",
        # A narrow first layer would stay FP32, and one topology has no other convolution.
        {
            "per_channel": layout == "per channel",
            "symmetric": symmetric,
            "format": shape,
            "first_layer": "int8",
        },
    )
    for layout in ("per channel", "per tensor")
    for symmetric in (True, False)
    for shape in ("qdq", "qoperator")
}
DYNAMIC = {
    f"dynamic {weight} {'per channel' if per_channel else 'per tensor'}": (
        "quantize.dynamic",
        {"weight": weight, "per_channel": per_channel},
    )
    for weight in ("quint8", "qint8")
    for per_channel in (True, False)
}
# Case: pass, its options, and the most the output may move (root mean square, relative).
CASES = {
    **{name: (*case, 0.1) for name, case in {**STATIC, **DYNAMIC}.items()},
    "static percentile": ("quantize.static", {"method": "percentile", "chunk": 16}, 0.2),
    "static entropy": ("quantize.static", {"method": "entropy", "chunk": 16}, 0.3),
    "static A16W8": ("quantize.static", {"activation": "quint16", "weight": "qint8"}, 0.1),
    "weights W8": ("quantize.weights", {"bits": 8}, 0.05),
    "weights W16": ("quantize.weights", {"bits": 16}, 0.001),
    "half": ("convert.fp16", {}, 0.01),
    "unstructured": ("prune.unstructured", {"ratio": 0.05}, 0.1),
    "mixed": ("mixed.search", {"max_drop_points": 2.0}, 0.1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def prepare_model(folder, name):
    """The prepared model and samples for it."""
    if name == "digits":
        source = DEMO / "digits-cnn-1.1.0.onnx"
        specs = input_specs(source, {})
        samples = load_samples(DEMO / "calibration.npz", specs).head(96)
    else:
        source, graph = folder / f"{name}.raw.onnx", GraphMaker()
        onnx.save(graph.model(TOPOLOGIES[name](graph)), str(source))
        x = np.random.default_rng(1).normal(size=(96, 3, 8, 8)).astype(np.float32)
        samples = Samples({"x": x}, None)
    prepared = folder / f"{name}.onnx"
    if not prepared.exists():
        prepare_file(source, prepared)
    return prepared, samples


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("case", CASES)
def test_every_option_loads_runs_and_stays_close(case, name, folder, tmp_path):
    step, options, most = CASES[case]
    source, samples = prepare_model(folder, name)
    _, destination = run_pass(step, source, tmp_path, parameters=options, calibration=samples)
    (reference,), (scores,) = (
        run_samples(open_session(path), samples) for path in (source, destination)
    )
    error = relative_error(reference, scores)
    assert error < most
    assert error > 0 or step == "prune.unstructured"
    operators = {node.op_type for node in onnx.load(str(destination)).graph.node}
    if options.get("format") == "qoperator" and name != "token_mixing":
        assert "QLinearConv" in operators
    if options.get("format") == "qdq":
        assert {"QuantizeLinear", "DequantizeLinear"} <= operators
