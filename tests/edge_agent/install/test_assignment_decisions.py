"""What a model's state makes of an assignment, and a device of what a release needs."""

import json
from typing import Any

import pytest

from edge_agent.exceptions import RequirementError
from edge_agent.install.decisions import Act, NextStep, SelfTestResult, decide
from edge_agent.install.requirements import Abilities, check_requirements
from edge_agent.releases.state import ModelState, Release
from edge_agent.releases.trust import Assignment, Manifest, parse_assignment, parse_manifest
from tests.edge_agent.publisher import make_assignment, make_manifest

OTHER = "f" * 64
DRIVER_IS_MISSING = SelfTestResult(False, "provider_missing", "no CUDA", is_device_fault=True)
DEVICE = Abilities(("cpu",), "aarch64", "1.22.0", 512, has_sandbox=False, isa=("neon", "dotprod"))


def manifest(**over: Any) -> Manifest:
    files = {"model.onnx": ("model", b"weights"), "golden.npz": ("golden", b"golden")}
    return parse_manifest(json.dumps(make_manifest(files, **over)).encode())


RELEASE = manifest()


def assignment(**over: Any) -> Assignment:
    return parse_assignment(json.dumps(make_assignment(RELEASE.digest, **over)).encode())


def state(**values: Any) -> ModelState:
    return ModelState(counter=1, **values)


HERE = Release(RELEASE.digest)


@pytest.mark.parametrize(
    ("model", "unable", "expected"),
    [
        (state(), None, NextStep(Act.INSTALL)),
        (state(current=Release(OTHER)), None, NextStep(Act.INSTALL)),
        (state(trial=Release(OTHER)), None, NextStep(Act.INSTALL)),
        (state(trial=HERE), None, NextStep(Act.TRY)),
        (state(is_pinned=True), None, NextStep(Act.NOTHING)),
        (state(current=HERE), None, NextStep(Act.KEEP)),
        (
            state(current=HERE, blocked={RELEASE.digest: "bad"}),
            None,
            NextStep(Act.REFUSE, "blocked", "bad"),
        ),
        (state(), DRIVER_IS_MISSING, NextStep(Act.REFUSE, "provider_missing", "no CUDA")),
    ],
)
def test_a_new_assignment(
    model: ModelState, unable: SelfTestResult | None, expected: NextStep
) -> None:
    assert decide(model, assignment(counter=2), RELEASE, unable=unable) == expected


@pytest.mark.parametrize(
    ("model", "unable", "expected"),
    [
        (state(current=HERE), None, Act.NOTHING),
        (state(current=HERE, trial=Release(OTHER)), None, Act.KEEP),
        (state(blocked={RELEASE.digest: "bad"}), None, Act.NOTHING),
        (state(), DRIVER_IS_MISSING, Act.NOTHING),
        (state(trial=HERE), None, Act.TRY),
        (state(), None, Act.INSTALL),
    ],
)
def test_an_assignment_acted_on_before_is_not_reported_again(
    model: ModelState, unable: SelfTestResult | None, expected: Act
) -> None:
    assert decide(model, assignment(counter=1), RELEASE, unable=unable).act == expected


def test_a_removal_comes_without_a_manifest_and_spares_a_pinned_model() -> None:
    removal = assignment(counter=2, action="remove")
    assert decide(state(current=HERE), removal, None, unable=None).act == Act.REMOVE
    pinned = state(current=HERE, is_pinned=True)
    assert decide(pinned, removal, None, unable=None).act == Act.NOTHING


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"providers": ["cuda", "tensorrt"]}, "needs one of"),
        ({"arch": ["x86_64"]}, "this is aarch64"),
        (
            {"isa": ["vnni", "avx2"]},
            "instruction sets .*vnni.*, has .*dotprod",
        ),
        ({"min_memory_mb": 513}, "needs 513 MB, has 512"),
        ({"min_runtime": "1.23.0"}, "needs runtime 1.23.0, has 1.22.0"),
    ],
)
def test_what_a_device_lacks_is_named(needs: dict[str, Any], message: str) -> None:
    with pytest.raises(RequirementError, match=message):
        check_requirements(manifest(requirements=needs), DEVICE)


@pytest.mark.parametrize(
    "needs",
    [
        {},
        {"providers": ["cuda", "cpu"], "arch": ["aarch64"]},
        {"isa": ["vnni", "dotprod"]},
        {"isa": []},
        {"min_memory_mb": 512, "min_runtime": "1.22.0"},
    ],
)
def test_what_a_device_has_is_enough(needs: dict[str, Any]) -> None:
    check_requirements(manifest(requirements=needs), DEVICE)
