"""The instruction sets of this processor that INT8 kernels differ by."""

import os
import platform
from collections.abc import Iterable

CPUINFO = "/proc/cpuinfo"
# 256 processors of x86 take about 400 kB; what is beyond is not read.
MAX_BYTES = 1024**2
MAX_NAME = 100
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
# The name that a manifest's `requirements.isa` uses, by the flags of which one set is enough.
_SETS: dict[str, tuple[frozenset[str], ...]] = {
    "avx2": (frozenset({"avx2"}),),
    "avx512": (_AVX512,),
    "vnni": (frozenset({"avx2", "avx_vnni"}), _AVX512 | {"avx512_vnni"}),
    "neon": (frozenset({"asimd"}), frozenset({"neon"})),
    "dotprod": (frozenset({"asimddp"}),),
    "i8mm": (frozenset({"i8mm"}),),
}


def read_instruction_sets(path: str | os.PathLike[str] = CPUINFO) -> list[str]:
    """What all cores of this machine have, of the names above; empty where nobody can tell."""
    try:
        with open(path, "rb") as stream:
            text = stream.read(MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return []
    # A line that the bound cut would miss flags.
    return parse_instruction_sets(text[: text.rfind("\n") + 1])


def read_processor_name(path: str | os.PathLike[str] = CPUINFO) -> str:
    """What the processor calls itself, at most 100 characters; the architecture where nobody
    says."""
    try:
        with open(path, "rb") as stream:
            text = stream.read(MAX_BYTES).decode("ascii", "replace")
    except OSError:
        text = ""
    return parse_processor_name(text) or platform.machine()[:MAX_NAME]


def parse_processor_name(text: str) -> str:
    """`model name` of `/proc/cpuinfo` on x86, the board's `Model` on ARM; empty for neither."""
    for wanted in ("model name", "Model", "Hardware"):
        for line in text.splitlines():
            key, colon, value = line.partition(":")
            name = " ".join(value.split())
            if colon and key.strip() == wanted and name:
                return name[:MAX_NAME]
    return ""


def parse_instruction_sets(text: str) -> list[str]:
    """The sets that `/proc/cpuinfo` shows for every core: `flags` on x86, `Features` on ARM.

    Cores of one board may differ, and a thread runs on any of them.
    """
    cores = list(_list_flags(text.splitlines()))
    if not cores:
        return []
    shared = frozenset.intersection(*cores)
    return [name for name, ways in _SETS.items() if any(way <= shared for way in ways)]


def _list_flags(lines: Iterable[str]) -> Iterable[frozenset[str]]:
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() in ("flags", "Features"):
            yield frozenset(value.lower().split())
