"""`mixed.search`: a precision for each node."""

from compression.recipe.declaration import PRODUCTS, Parameter, Pass, SearchFormat
from compression.recipe.shared_parameters import CALIBRATED

PASS = Pass(
    name="mixed.search",
    title="INT8 where it is harmless, wider where it is not",
    run="compression.engine.passes.mixed:search_mixed",
    parameters={
        **CALIBRATED,
        "max_drop_points": Parameter("float", 0.0, 100.0, default=0.5),
        # None: what the target's ISA has a use for, see `compression.engine.passes.ladder`.
        "ladder": Parameter(
            "names", choices=("a16w8", "w8", "w16"), default=None, is_nullable=True
        ),
        "probe": Parameter("int", 16, 100_000, default=256),
    },
    targets=PRODUCTS,
    reads=frozenset({"calibration", "isa", "search", "scoring"}),
    usual_seconds=20.0,
    is_last=True,
    computes_int8=True,
    formats=(SearchFormat("mixed", 7, 1),),
)
