"""How a failure of the passes is put into words. Pure."""

import errno

_MEMORY_SIGNS = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate",
    "out of memory",
    "not enough memory",
    "resource_exhausted",
)


def describe_failure(error: BaseException, limits: dict[str, int]) -> tuple[str, str]:
    """Code and message of what ended the passes."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _MEMORY_SIGNS):
        return "out_of_memory", f"{describe_memory(limits['memory_bytes'])} {text[:500]}"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "file_too_large", (
            f"A file grew beyond the {limits['memory_bytes']:,} bytes that limits.memory_bytes "
            "allows."
        )
    return "pass_failed", text[:2000]


def describe_memory(memory_bytes: int) -> str:
    """The sentence for passes that met the memory limit."""
    return (
        f"The model needs more than the {memory_bytes:,} bytes of memory that "
        "limits.memory_bytes allows."
    )
