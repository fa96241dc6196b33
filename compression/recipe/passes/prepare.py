"""`prepare`: what every recipe starts with."""

from compression.recipe.declaration import Pass

PASS = Pass(
    name="prepare",
    title="Shape inference, batch-norm folding and clean-up",
    run="compression.engine.passes.prepare:prepare",
    usual_seconds=1.0,
)
