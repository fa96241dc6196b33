"""`quantize.weights`: smaller weights, FP32 arithmetic."""

from compression.recipe.declaration import PRODUCTS, Parameter, Pass, SearchFormat
from compression.recipe.shared_parameters import EXCLUDED

PASS = Pass(
    name="quantize.weights",
    title="Weights alone stored in 8 or 16 bits",
    run="compression.engine.passes.weights:quantize_weights",
    parameters={"bits": Parameter("int", choices=(8, 16), default=8), "exclude": EXCLUDED},
    targets=PRODUCTS | {"Gather"},
    usual_seconds=1.0,
    is_last=True,
    formats=(
        SearchFormat("w8", 3, 1, {"bits": 8}),
        SearchFormat("w16", 5, 2, {"bits": 16}),
    ),
)
