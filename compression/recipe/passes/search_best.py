"""`search.best`: the other passes, tried."""

from compression.recipe.declaration import PRODUCTS, READABLE, Parameter, Pass

PASS = Pass(
    name="search.best",
    title="Try the other passes and keep the best variant that passes the gates",
    run="compression.engine.passes.search_best:search_best",
    parameters={
        "max_ratio": Parameter("float", 0.0, 0.8, default=0.8),
        "finalists": Parameter("int", 1, 64, default=8),
        "train": Parameter("bool", default=True),
        # None: as many as the training pass takes of itself.
        "training_steps": Parameter("int", 1, 1_000_000, default=None, is_nullable=True),
    },
    targets=PRODUCTS | {"Gather"},
    # What it judges by decides what it writes, and what is installed decides what it can try.
    reads=frozenset(READABLE),
    usual_seconds=300.0,
    is_last=True,
)
