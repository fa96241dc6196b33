"""`prune.unstructured`: zeroes among the weights."""

from compression.recipe.declaration import PRODUCTS, Parameter, Pass

PASS = Pass(
    name="prune.unstructured",
    title="Zero the smallest weights (sparsity alone: neither file nor latency shrinks)",
    run="compression.engine.passes.weights:prune_unstructured",
    parameters={"ratio": Parameter("float", 0.01, 0.99, default=0.4)},
    targets=PRODUCTS,
    usual_seconds=1.0,
)
