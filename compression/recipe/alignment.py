"""Which multiple the widths of a pruned model are kept in. Pure.

Kernels work on whole vectors: a width that is no multiple of their length pays for the next one,
and unaligned pruning has made models slower than they were. FP32 kernels are content with 8; INT8
kernels take 16 products at once.
"""

FLOAT_ALIGNMENT = 8
INT8_ALIGNMENT = 16


def decide_alignment(*, is_int8: bool) -> int:
    """The multiple for a pruning pass, from whether a pass after it computes in INT8."""
    return INT8_ALIGNMENT if is_int8 else FLOAT_ALIGNMENT
