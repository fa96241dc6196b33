"""`quantize.static`: INT8 with ranges from calibration rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from compression.recipe.declaration import PRODUCTS, Parameter, Pass, SearchFormat, choice
from compression.recipe.facts import GraphFacts
from compression.recipe.shared_parameters import CALIBRATED, EXCLUDED


def _conflicts(parameters: Mapping[str, Any]) -> Iterator[str]:
    activation = str(parameters["activation"])
    if parameters["format"] == "qoperator" and activation.endswith("16"):
        yield f"QOperator computes in 8 bits; activation {activation} needs the format qdq."


def _obstacles(parameters: Mapping[str, Any], facts: GraphFacts) -> Iterator[str]:
    if facts.control_flow and parameters["format"] == "qoperator":
        names = ", ".join(facts.control_flow)
        yield f"QOperator does not follow tensors into {names}; the format qdq does."


PASS = Pass(
    name="quantize.static",
    title="INT8 weights and activations from calibration",
    run="compression.engine.passes.static:quantize_statically",
    parameters={
        **CALIBRATED,
        "activation": choice(None, "quint8", "qint8", "quint16", "qint16"),
        "weight": choice(None, "quint8", "qint8"),
        "format": choice(None, "qdq", "qoperator"),
        "per_channel": Parameter("bool", default=True),
        "symmetric": Parameter("bool", default=None, is_nullable=True),
        "first_layer": choice(None, "fp32", "int8"),
        "exclude": EXCLUDED,
    },
    targets=PRODUCTS | {"Gather"},
    reads=frozenset({"calibration", "isa"}),
    usual_seconds=4.0,
    is_last=True,
    computes_int8=True,
    formats=(
        SearchFormat("int8-qdq", 1, 1, {"format": "qdq"}),
        SearchFormat("int8-qoperator", 2, 1, {"format": "qoperator"}),
    ),
    conflicts=_conflicts,
    obstacles=_obstacles,
)
