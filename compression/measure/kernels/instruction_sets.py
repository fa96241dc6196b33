"""Which instruction sets compute INT8 products alike. Pure.

ONNX Runtime multiplies U8 activations with S8 weights. Its kernels for AVX2 and for AVX-512 without
VNNI add two neighbouring products in 16 bits with saturation (VPMADDUBSW); those for VNNI and for
ARM sum in 32 bits. S8 activations and U8 weights are summed in 32 bits everywhere.
"""

# The names of a manifest's `requirements.isa`, in the order of reports.
EXACT_SETS = ("vnni", "neon", "dotprod", "i8mm")
SATURATING_SETS = ("avx2", "avx512")
ALL_SETS = (*SATURATING_SETS, *EXACT_SETS)
WITHOUT_VNNI = "AVX2 and AVX-512 without VNNI"

# What is written for these has to be right where sums saturate.
TARGETS_WITHOUT_VNNI = ("portable", "x86-avx2")
# What a form that is not for every processor was made for.
_TARGET_SETS = {"x86-vnni": ("vnni",), "arm64": ("neon",)}


def require_sets(target_isa: str, *, can_saturate: bool, is_signed: bool) -> list[str]:
    """The instruction sets of which a device needs one; empty where any processor will do.

    Args:
        target_isa: of the recipe.
        can_saturate: whether a product of the file saturates 16 bits on some processor.
        is_signed: whether it has products of S8 activations, which x86 computes slowly.
    """
    if can_saturate:
        return list(_TARGET_SETS.get(target_isa, ("vnni", "neon")))
    return list(_TARGET_SETS["arm64"]) if is_signed and target_isa == "arm64" else []
