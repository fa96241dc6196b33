"""Instruction sets as the processor shows them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.processor import (
    MAX_BYTES,
    MAX_NAME,
    parse_instruction_sets,
    parse_processor_name,
    read_instruction_sets,
)

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"
PROCESSORS = {
    "Atom without AVX": ("flags", "fpu sse2 ssse3 sse4_1 sse4_2 popcnt", []),
    "Haswell": ("flags", "fpu avx fma avx2 bmi2", ["avx2"]),
    "Skylake-SP": ("flags", f"avx avx2 {AVX512}", ["avx2", "avx512"]),
    "Cascade Lake": ("flags", f"avx avx2 {AVX512} avx512_vnni", ["avx2", "avx512", "vnni"]),
    "N100": ("flags", "avx avx2 avx_vnni", ["avx2", "vnni"]),
    "Knights Landing": ("flags", "avx avx2 avx512f avx512cd", ["avx2"]),
    "VNNI that a hypervisor shows without AVX-512": ("flags", "avx2 avx512_vnni", ["avx2"]),
    "Raspberry Pi 4": ("Features", "fp asimd evtstrm crc32 cpuid", ["neon"]),
    "Raspberry Pi 5": ("Features", "fp asimd asimdhp asimddp", ["neon", "dotprod"]),
    "Graviton 3": ("Features", "fp asimd asimddp sve i8mm bf16", ["neon", "dotprod", "i8mm"]),
    "32 bits": ("Features", "half thumb vfpv4 neon", ["neon"]),
    "capitals": ("flags", "FPU AVX2", ["avx2"]),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_has_what_its_flags_say(name: str) -> None:
    key, flags, expected = PROCESSORS[name]
    core = f"processor\t: 0\nmodel name\t: avx2 in its name\n{key}\t\t: {flags}\nbugs\t: i8mm\n\n"
    assert parse_instruction_sets(core) == expected
    assert parse_instruction_sets(core * 4) == expected


def test_a_set_counts_only_where_every_core_has_it() -> None:
    text = "Features\t: fp asimd\nFeatures\t: fp asimd asimddp i8mm\n"
    assert parse_instruction_sets(text) == ["neon"]


@pytest.mark.parametrize("content", [b"", b"flags", b"flags : ", b"\xff\x00: avx2\n", b"a:b\n" * 9])
def test_a_file_that_says_nothing_gives_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(content)
    assert read_instruction_sets(tmp_path / "cpuinfo") == []
    assert read_instruction_sets(tmp_path / "none") == []


def test_no_more_than_the_bound_is_read_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    core = b"flags\t: fpu avx avx2 avx_vnni\n"
    path = tmp_path / "cpuinfo"
    path.write_bytes(core * (MAX_BYTES // len(core) + 9) + b"flags\t: fpu\n")
    assert read_instruction_sets(path) == ["avx2", "vnni"]
    path.write_bytes(b"flags\t: avx2 " + b"x" * MAX_BYTES)
    assert read_instruction_sets(path) == []


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert isinstance(parse_instruction_sets(text), list)


def test_this_machine_tells_the_same_as_its_kernel() -> None:
    text = Path("/proc/cpuinfo").read_text()
    assert read_instruction_sets() == parse_instruction_sets(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R)  N100\nflags\t: avx2\n", "Intel(R) N100"),
        ("Features\t: asimd\n\nHardware\t: BCM2711\nModel\t: Raspberry Pi 4\n", "Raspberry Pi 4"),
        ("Features\t: asimd\nHardware\t: BCM2711\n", "BCM2711"),
        ("model name\t:   \n", ""),
        (f"model name\t: {'x' * 500}\n", "x" * MAX_NAME),
        ("", ""),
    ],
)
def test_a_processor_is_called_what_it_calls_itself(text: str, name: str) -> None:
    assert parse_processor_name(text) == name
