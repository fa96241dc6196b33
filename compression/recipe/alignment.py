"""Which multiple the widths of a pruned model are kept in. Pure.

Kernels work on whole vectors: a width that is no multiple of their length pays for the next one,
and unaligned pruning has made models slower than they were. FP32 kernels are content with 8; INT8
kernels take 16 products at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compression.recipe.parameters import PASSES

if TYPE_CHECKING:
    from compression.recipe.recipe import Step

FLOAT_ALIGNMENT = 8
INT8_ALIGNMENT = 16


def decide_alignment(following: "Sequence[Step]") -> int:
    """The multiple for a pruning pass, from the passes that come after it."""
    is_int8 = any(PASSES[step.name].computes_int8 for step in following)
    return INT8_ALIGNMENT if is_int8 else FLOAT_ALIGNMENT
