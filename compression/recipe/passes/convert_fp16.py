"""`convert.fp16`: half precision."""

from collections.abc import Iterator, Mapping
from typing import Any

from compression.recipe.declaration import WEIGHTED, Pass, SearchFormat
from compression.recipe.facts import GraphFacts
from compression.recipe.shared_parameters import EXCLUDED


def _obstacles(parameters: Mapping[str, Any], facts: GraphFacts) -> Iterator[str]:
    if facts.sequences:
        yield f"convert.fp16 does not follow tensors into {', '.join(facts.sequences)}."


PASS = Pass(
    name="convert.fp16",
    title="Half precision, sensitive regions kept whole in FP32",
    run="compression.engine.passes.half:convert_fp16",
    parameters={"exclude": EXCLUDED},
    targets=WEIGHTED,
    # Rows show which values overflow; without any, none are looked for.
    reads=frozenset({"calibration"}),
    is_calibration_optional=True,
    usual_seconds=1.0,
    is_last=True,
    reaches_branches=True,
    formats=(SearchFormat("fp16", 6, 2),),
    obstacles=_obstacles,
)
