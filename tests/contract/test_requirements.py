"""Server and agent judge by one rule whether a release runs on a device."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.exceptions import RequirementError
from edge_agent.install.requirements import Abilities, check_requirements
from edge_agent.releases.trust import Manifest, parse_manifest
from registry.manifest import ISA_NAMES, complete_requirements
from registry.matching import fits
from tests.edge_agent.publisher import make_manifest

SETS = st.lists(st.sampled_from(ISA_NAMES), max_size=3, unique=True)
NEEDS = st.fixed_dictionaries(
    {},
    optional={
        "providers": st.lists(st.sampled_from(["cpu", "cuda"]), max_size=2),
        "arch": st.lists(st.sampled_from(["aarch64", "x86_64"]), max_size=2),
        "isa": SETS,
        "min_memory_mb": st.integers(0, 1024),
        "min_runtime": st.sampled_from(["", "1.9", "1.10", "1.11.2"]),
    },
)
DEVICES = st.builds(
    Abilities,
    providers=st.sampled_from([("cpu",), ("cuda", "cpu")]),
    arch=st.sampled_from(["aarch64", "x86_64"]),
    runtime=st.sampled_from(["1.9.1", "1.10.0", "1.11.2"]),
    memory_mb=st.integers(1, 1024),
    has_sandbox=st.booleans(),
    isa=SETS.map(tuple),
)
N100 = Abilities(("cpu",), "x86_64", "1.22.0", 8192, has_sandbox=False, isa=("avx2", "vnni"))
ATOM = Abilities(("cpu",), "x86_64", "1.22.0", 8192, has_sandbox=False, isa=("avx2",))


def release(needs: dict[str, Any]) -> Manifest:
    files = {"model.onnx": ("model", b"weights"), "golden.npz": ("golden", b"golden")}
    document = make_manifest(files, requirements=complete_requirements(needs))
    return parse_manifest(json.dumps(document).encode())


def runs_by_agent(needs: dict[str, Any], device: Abilities) -> bool:
    try:
        check_requirements(release(needs), device)
    except RequirementError:
        return False
    return True


def runs_by_server(needs: dict[str, Any], device: Abilities) -> bool:
    reported = {
        "arch": device.arch,
        "isa": list(device.isa),
        "providers": list(device.providers),
        "memory_mb": device.memory_mb,
        "runtime_version": device.runtime,
    }
    return fits(complete_requirements(needs), reported)


@given(NEEDS, DEVICES)
@example({"isa": ["vnni"]}, N100)
@example({"isa": ["vnni"]}, ATOM)
def test_both_sides_say_the_same_of_any_release_and_device(
    needs: dict[str, Any], device: Abilities
) -> None:
    assert runs_by_agent(needs, device) == runs_by_server(needs, device)


@pytest.mark.parametrize(("device", "expected"), [(N100, True), (ATOM, False)])
def test_a_release_for_an_instruction_set_runs_where_the_processor_has_it(
    device: Abilities, expected: bool
) -> None:
    assert runs_by_server({"isa": ["vnni"]}, device) is expected
    assert runs_by_agent({"isa": ["vnni"]}, device) is expected
