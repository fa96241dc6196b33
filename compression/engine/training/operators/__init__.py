"""ONNX operators in PyTorch.

A builder reads a node's attributes once and returns the function that computes it. The function
takes the node's inputs in order, None for one that is left out, and returns one tensor or, for
several outputs, a tuple. Semantics: https://onnx.ai/onnx/operators.
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

__all__ = ["OPERATORS", "Builder", "Node"]
