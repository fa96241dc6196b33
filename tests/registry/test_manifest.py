"""The manifest's rules, for all values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.exceptions import ManifestInvalidError
from registry.manifest import (
    build_manifest,
    canonical_bytes,
    check_manifest,
    check_path,
    complete_requirements,
    manifest_digest,
)

DIGEST = "a" * 64
MODEL_FILE = {"path": "model.onnx", "role": "model", "sha256": DIGEST, "size_bytes": 1}
GOLDEN_FILE = {"path": "golden.npz", "role": "golden", "sha256": DIGEST, "size_bytes": 1}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)
part = st.text("abcXYZ019_-", min_size=1, max_size=8)


def make(**over: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": "digits",
        "version": "1.0.0",
        "sequence": 1,
        "variant": "fp32",
        "task": "classification",
        "files": [MODEL_FILE],
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
        "opset": 17,
    }
    return build_manifest(**{**fields, **over})


@given(json_values)
def test_canonical_bytes_read_back_as_the_value_and_are_stable(value: Any) -> None:
    data = canonical_bytes(value)
    again = json.loads(data)
    assert again == value
    assert canonical_bytes(again) == data


@given(st.dictionaries(part, st.integers(), min_size=2))
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert canonical_bytes(value) == canonical_bytes(dict(reversed(value.items())))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: object()}, {"s": {1, 2}}])
def test_what_is_not_json_has_no_canonical_bytes(value: Any) -> None:
    with pytest.raises(ManifestInvalidError):
        canonical_bytes(value)


@given(st.lists(part, min_size=1, max_size=4))
def test_plain_relative_paths_are_accepted(parts: list[str]) -> None:
    path = "/".join(parts)
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/./b",
        "a/",
        "C:\\x",
        "a\\b",
        "c:x",
        "a\x00b",
        "a\nb",
        "x" * 256,
        None,
        7,
    ],
)
def test_paths_that_could_leave_the_folder_are_refused(path: Any) -> None:
    with pytest.raises(ManifestInvalidError):
        check_path(path)


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_files_does_not_change_the_identity(names: list[str]) -> None:
    extra = [{**MODEL_FILE, "path": name, "role": "external_data"} for name in names]
    expected = make(
        files=[{**MODEL_FILE, "path": n, "role": "external_data"} for n in "abc"] + [MODEL_FILE]
    )
    assert manifest_digest(canonical_bytes(make(files=[MODEL_FILE, *extra]))) == manifest_digest(
        canonical_bytes(expected)
    )


BROKEN: dict[str, dict[str, Any]] = {
    "no model file": {"files": [GOLDEN_FILE]},
    "two model files": {"files": [MODEL_FILE, {**MODEL_FILE, "path": "b.onnx"}]},
    "a path twice": {"files": [MODEL_FILE, {**GOLDEN_FILE, "path": "MODEL.onnx"}]},
    "upper-case digest": {"files": [{**MODEL_FILE, "sha256": "A" * 64}]},
    "short digest": {"files": [{**MODEL_FILE, "sha256": "a" * 63}]},
    "negative size": {"files": [{**MODEL_FILE, "size_bytes": -1}]},
    "size is a boolean": {"files": [{**MODEL_FILE, "size_bytes": True}]},
    "unknown role": {"files": [{**MODEL_FILE, "role": "virus"}]},
    "escaping path": {"files": [{**MODEL_FILE, "path": "../model.onnx"}]},
    "sequence zero": {"sequence": 0},
    "opset is a text": {"opset": "17"},
    "empty version": {"version": ""},
    "golden without its file": {
        "golden": {"path": "golden.npz", "atol": 0, "rtol": 0, "min_fraction": 1}
    },
    "golden fraction zero": {
        "files": [MODEL_FILE, GOLDEN_FILE],
        "golden": {"path": "golden.npz", "atol": 0, "rtol": 0, "min_fraction": 0},
    },
    "golden tolerance is infinite": {
        "files": [MODEL_FILE, GOLDEN_FILE],
        "golden": {"path": "golden.npz", "atol": float("inf"), "rtol": 0, "min_fraction": 1},
    },
    "unknown requirement": {"requirements": {"gpu": True}},
    "unknown instruction set": {"requirements": {"isa": ["mmx"]}},
    "instruction sets as a text": {"requirements": {"isa": "vnni"}},
    "instruction sets as nothing": {"requirements": {"isa": ""}},
    "instruction sets of lists": {"requirements": {"isa": [["vnni"]]}},
    "negative memory": {"requirements": {"min_memory_mb": -1}},
    "unknown activation": {"postprocessing": {"activation": "relu"}},
    "baseline is no digest": {"baseline_sha256": "zz"},
}


@pytest.mark.parametrize("case", BROKEN, ids=list(BROKEN))
def test_broken_manifests_are_refused(case: str) -> None:
    with pytest.raises(ManifestInvalidError):
        make(**BROKEN[case])


def test_unknown_fields_and_schemas_are_refused() -> None:
    with pytest.raises(ManifestInvalidError):
        check_manifest({**make(), "extra": 1})
    with pytest.raises(ManifestInvalidError):
        check_manifest({**make(), "schema": "aviary.manifest/2"})


def test_requirements_left_out_get_their_defaults() -> None:
    assert complete_requirements({"arch": ["aarch64"]}) == {
        "providers": ["cpu"],
        "arch": ["aarch64"],
        "min_memory_mb": 0,
        "min_runtime": "",
    }


def test_a_manifest_without_an_instruction_set_is_what_it_was_before_there_were_any() -> None:
    assert make(requirements={"isa": []}) == make()
    assert "isa" not in make()["requirements"]
    assert make(requirements={"isa": ["vnni"]})["requirements"]["isa"] == ["vnni"]
