"""`quantize.dynamic`: INT8 without data."""

from compression.recipe.declaration import Parameter, Pass, SearchFormat, choice
from compression.recipe.shared_parameters import EXCLUDED

PASS = Pass(
    name="quantize.dynamic",
    title="INT8 weights, activations quantized while running",
    run="compression.engine.passes.dynamic:quantize_dynamically",
    parameters={
        "weight": choice("quint8", "quint8", "qint8"),
        "per_channel": Parameter("bool", default=False),
        "exclude": EXCLUDED,
    },
    targets=frozenset({"Conv", "Gemm", "MatMul", "LSTM", "Gather"}),
    reads=frozenset({"isa"}),
    usual_seconds=1.0,
    is_last=True,
    computes_int8=True,
    formats=(SearchFormat("dynamic", 4, 1),),
)
