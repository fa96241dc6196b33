"""ONNX operators, written once for every engine.

A builder reads a node's attributes once and returns the function that computes it. The function
takes the array library and the node's inputs in order, None for one that is left out, and returns
one array or, for several outputs, a tuple. Semantics: https://onnx.ai/onnx/operators.
"""

from compression.engine.training.operators.activations import ACTIVATIONS
from compression.engine.training.operators.arithmetic import ARITHMETIC
from compression.engine.training.operators.layout import LAYOUT
from compression.engine.training.operators.linear import LINEAR
from compression.engine.training.operators.node import Builder, Node
from compression.engine.training.operators.normalization import NORMALIZATION
from compression.engine.training.operators.pooling import POOLING
from compression.engine.training.operators.slicing import SLICING

OPERATORS: dict[str, Builder] = {
    **ACTIVATIONS,
    **ARITHMETIC,
    **LAYOUT,
    **LINEAR,
    **NORMALIZATION,
    **POOLING,
    **SLICING,
}
# NumPy computes these at once where all their inputs are known: shapes above all.
FOLDABLE = frozenset({*ARITHMETIC, *LAYOUT, *SLICING})
# Inputs that are read as numbers, not computed with.
READ_PLACES: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 3),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}

__all__ = ["FOLDABLE", "OPERATORS", "READ_PLACES", "Builder", "Node"]
