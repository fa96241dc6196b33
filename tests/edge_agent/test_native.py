"""The C++ program gives the agent's answers, and says what is wrong when it cannot."""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edge_agent.config import InferenceConfig
from edge_agent.inference.session import ModelSession
from edge_agent.releases.trust import parse_manifest
from servers import kept
from tests.edge_agent.publisher import make_manifest, make_model
from tests.edge_agent.releases import make_session
from tests.factories import exports

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data"
SOURCE = ROOT / "edge_agent" / "native"
USAGE, RUNTIME, MODEL, INPUT, OUTPUT = 2, 3, 4, 5, 6
pytestmark = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("g++")), reason="needs make and g++"
)


def build(out: Path, *flags: str) -> Path:
    command = ["make", "-C", str(SOURCE), "CXX=g++", f"PYTHON={sys.executable}", f"OUT={out}"]
    built = kept.run([*command, *flags])
    assert built.returncode == 0, built.stderr
    return out / "edge_infer"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program under the address and undefined-behaviour sanitizers."""
    flags = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    return build(tmp_path_factory.mktemp("sanitized"), f"CXXFLAGS={flags}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(
    program: Path, model: Path, *arguments: object, sha256: str = ""
) -> "subprocess.CompletedProcess[str]":
    known = sha256 or (digest(model) if model.is_file() else "0" * 64)
    command = [str(program), str(model), "--sha256", known, *map(str, arguments)]
    return kept.run(command)


def classify(program: Path, model: Path, *arguments: object) -> list[dict[str, Any]]:
    done = run(program, model, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def open_agent_session(model: Path) -> ModelSession:
    document = make_manifest({"model.onnx": ("model", model.read_bytes())})
    return ModelSession(model, parse_manifest(json.dumps(document).encode()), InferenceConfig())


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_it_agrees_with_the_agent_on_the_whole_evaluation_set(
    program: Path, version: str, tmp_path: Path
) -> None:
    model, rows = DATA / f"digits-cnn-{version}.onnx", tmp_path / "rows.npy"
    with np.load(DATA / "eval.npz") as archive:
        x = archive["x"]
    np.save(rows, x)
    *answers, summary = classify(program, model, "--input", rows, "--top", 3)
    assert len(answers) == summary["rows"] == len(x) == 500
    session = open_agent_session(model)
    for index, answer in enumerate(answers):
        expected = session.infer(x[index : index + 1]).top_k
        assert answer["index"] == index
        assert [hit["class_id"] for hit in answer["top_k"]] == [hit[0] for hit in expected]
        got = [hit["confidence"] for hit in answer["top_k"]]
        assert got == pytest.approx([hit[2] for hit in expected], abs=1e-5)


@pytest.mark.parametrize(("activation", "expected"), [("none", 2.0), ("sigmoid", 0.880797)])
def test_the_scores_are_read_as_asked(
    program: Path, tmp_path: Path, activation: str, expected: float
) -> None:
    model, rows = tmp_path / "model.onnx", tmp_path / "rows.npy"
    model.write_bytes(make_model(bias=2.0))
    np.save(rows, np.zeros((1, 4), np.float32))
    answer, _ = classify(program, model, "--input", rows, "--activation", activation)
    assert answer["top_k"][0]["confidence"] == pytest.approx(expected, abs=1e-5)


FORMS = {
    "binary": (exports.one_sigmoid(), ("--activation", "none")),
    "a score of two": (exports.linear(width=1, out="logits"), ("--activation", "sigmoid")),
    "values": (exports.linear(width=1, out="logits"), ()),
}


@pytest.mark.parametrize("name", FORMS)
def test_one_number_a_row_is_read_as_the_contract_says(
    program: Path, tmp_path: Path, name: str
) -> None:
    data, activation = FORMS[name]
    form = "values" if name == "values" else "binary"
    model, rows = tmp_path / "model.onnx", tmp_path / "rows.npy"
    model.write_bytes(data)
    row = np.array([[0.5, -1.0, 2.0, 0.1]], np.float32)
    np.save(rows, row)
    answer, _ = classify(program, model, "--input", rows, "--form", form, *activation)
    is_value = form == "values"
    contract = {
        "task": "regression" if is_value else "classification",
        "form": form,
        "outputs": {form if is_value else "scores": "score" if name == "binary" else "logits"},
        "activation": activation[1] if activation else "none",
    }
    result = make_session(tmp_path, data, contract=contract, labels=["no", "yes"]).infer(row)
    if is_value:
        assert answer["values"] == pytest.approx([result.measures["value"]], abs=1e-5)
    else:
        assert [hit["class_id"] for hit in answer["top_k"]] == [hit[0] for hit in result.top_k]
        assert answer["top_k"][0]["confidence"] == pytest.approx(result.confidence, abs=1e-5)
    with pytest.raises(AssertionError, match="no score per class"):
        classify(program, model, "--input", rows)


def voice_rows() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(3)
    return {
        "input": generator.normal(size=(5, 9)).astype(np.float32),
        "state": np.zeros((2, 1, 4), np.float32),
        "sr": np.array(16000),
    }


def test_several_inputs_of_several_types_are_fed_by_name(sanitized: Path, tmp_path: Path) -> None:
    """Rows of one input, a state and a rate that belong to the call."""
    data = exports.voice_activity()
    model = tmp_path / "model.onnx"
    model.write_bytes(data)
    given = []
    for name, value in voice_rows().items():
        np.save(tmp_path / f"{name}.npy", value)
        given += ["--input", f"{name}={tmp_path / name}.npy"]
    reading = ("--output", "output", "--form", "binary", "--activation", "none")
    *answers, summary = classify(sanitized, model, *given, *reading)
    assert len(answers) == summary["rows"] == 5
    contract = {"task": "classification", "form": "binary", "outputs": {"scores": "output"}}
    session = make_session(tmp_path, data, contract=contract, labels=["no", "yes"])
    for answer, row in zip(answers, voice_rows()["input"], strict=True):
        expected = session.infer({**voice_rows(), "input": row[None]})
        assert answer["top_k"][0]["class_id"] == expected.class_id
        assert answer["top_k"][0]["confidence"] == pytest.approx(expected.confidence, abs=1e-5)
    # A state that is left out is zeros, as it was here.
    without = [word for pair in zip(given[::2], given[1::2], strict=True)
               if not pair[1].startswith("state=") for word in pair]  # fmt: skip
    *again, _ = classify(sanitized, model, *without, *reading)
    assert [item["top_k"] for item in again] == [item["top_k"] for item in answers]


KINDS = ["float16", "float32", "float64", "int8", "int16", "int32", "int64",
         "uint8", "uint16", "uint32", "uint64", "bool"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_every_type_go_in_and_come_out(
    sanitized: Path, tmp_path: Path, kind: str
) -> None:
    dtype = np.dtype(kind)
    number = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", number, ["batch", 3])],
        [helper.make_tensor_value_info("y", number, ["batch", 3])],
    )
    model, rows = tmp_path / "model.onnx", tmp_path / "rows.npy"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), model)
    x = np.array([[0, 1, 5], [2, 120, 0], [3, 0.5, 6e-8]]).astype(dtype)
    if dtype.kind in "if":
        x = np.concatenate([x, -x])
    np.save(rows, x)
    *answers, _ = classify(sanitized, model, "--input", rows, "--form", "values")
    assert [item["values"] for item in answers] == x.astype(np.float64).tolist() or np.allclose(
        [item["values"] for item in answers], x.astype(np.float64), rtol=1e-8, atol=0
    )


def test_a_label_is_the_class_itself(program: Path, tmp_path: Path) -> None:
    model, rows = tmp_path / "model.onnx", tmp_path / "rows.npy"
    model.write_bytes(exports.forest(zipmap=False, classes=[0, 1, 2]))
    np.save(rows, np.array([[0.5, -1.0, 2.0, 0.1]], np.float32))
    answer, _ = classify(program, model, "--input", rows, "--output", "label", "--form", "label")
    assert answer["class_id"] == 2
    done = run(program, model, "--input", rows)
    assert (done.returncode, "say which with --output: label, probabilities" in done.stderr) == (
        MODEL, True
    )  # fmt: skip


UNFED = {
    "a name that no input has": (["--input", "nothing=rows.npy"], USAGE, "expected NAME=FILE of"),
    "two files for one": (["--input", "sr=a", "--input", "sr=b"], USAGE, "two files for 'sr'"),
    "rows without a file": (["--input", "sr=sr.npy"], USAGE, "no file for the input 'input'"),
    "another type": (["--input", "input=i.npy", "--input", "sr=f.npy"], INPUT, "is int64"),
    "another state": (["--input", "input=i.npy", "--input", "state=i.npy"], INPUT, "[2, any, 4]"),
}


@pytest.mark.parametrize("name", UNFED)
def test_what_does_not_feed_the_model_is_named(
    sanitized: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, status, reason = UNFED[name]
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model.onnx"
    model.write_bytes(exports.voice_activity())
    np.save("i.npy", np.zeros((2, 9), np.float32))
    np.save("f.npy", np.float32(16000))
    np.save("sr.npy", np.array(16000))
    done = run(sanitized, model, "--output", "output", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert reason in done.stderr


def test_texts_and_maps_are_refused_by_name(program: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(exports.categories())
    done = run(program, model, "--output", "label")
    assert (done.returncode, "feeds no texts" in done.stderr) == (MODEL, True)
    model.write_bytes(exports.forest(zipmap=True, classes=[0, 1, 2]))
    done = run(program, model, "--output", "probabilities")
    assert done.returncode == MODEL, done.stderr


def test_help_names_the_limits(program: Path) -> None:
    done = kept.run([str(program), "--help"])
    assert done.returncode == 0 and "--input NAME=FILE" in done.stdout
    assert "Not here, but in the agent: texts, maps" in done.stdout


def npy(header: bytes, data: bytes = bytes(16), version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }\n"
INPUTS = {
    "no npy": (b"no array here", "not an npy file"),
    "empty": (b"", "expected 1 to"),
    "a bare magic": (b"\x93NUMPY", "not an npy file"),
    "a version to come": (npy(GOOD, version=3), "version 1 or 2, got 3"),
    "a header cut off": (npy(GOOD)[:40], "cut off"),
    "a header of 4 GiB": (
        b"\x93NUMPY\2\0\xff\xff\xff\xff" + GOOD + bytes(16), "cut off"),
    "no header": (npy(b""), "expected little-endian numbers"),
    "objects": (npy(GOOD.replace(b"<f4", b"|O")), "expected little-endian numbers"),
    "doubles": (npy(GOOD.replace(b"<f4", b"<f8"), bytes(32)), "is float32, the file has float64"),
    "big-endian": (npy(GOOD.replace(b"<f4", b">f4")), "expected little-endian numbers"),
    "Fortran's order": (npy(GOOD.replace(b"False", b"True")), "C order"),
    "no shape": (npy(GOOD.replace(b"(1, 4)", b"None")), "no shape"),
    "a negative shape": (npy(GOOD.replace(b"(1, 4)", b"(-1, 4)")), "no shape"),
    "an endless shape": (npy(GOOD.replace(b"(1, 4), }", b"(1, 4")), "no shape"),
    "a huge dimension": (npy(GOOD.replace(b"(1, 4)", b"(" + b"9" * 40 + b",)")), "too large"),
    "a product that overflows": (
        npy(GOOD.replace(b"(1, 4)", b"(1073741824, 1073741824, 1073741824)")), "too large"),
    "many dimensions": (npy(GOOD.replace(b"(1, 4)", b"(" + b"1," * 50 + b")")), "8 dimensions"),
    "fewer bytes than the shape": (npy(GOOD, bytes(15)), "promises 16 bytes, 15 are there"),
    "more bytes than the shape": (npy(GOOD, bytes(17)), "promises 16 bytes, 17 are there"),
    "another row": (npy(GOOD.replace(b"(1, 4)", b"(4, 1)")), "one row of the model is [1, 4]"),
    "another rank": (npy(GOOD.replace(b"(1, 4)", b"(4,)")), "one row of the model is [1, 4]"),
    "no rows": (npy(GOOD.replace(b"(1, 4)", b"(0, 4)"), b""), "one row of the model is [1, 4]"),
    "nothing in a row": (npy(GOOD.replace(b"(1, 4)", b"(4, 0)"), b""), "is [1, 4]"),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_a_bad_input_is_named(sanitized: Path, tmp_path: Path, name: str) -> None:
    data, reason = INPUTS[name]
    model, rows = tmp_path / "model.onnx", tmp_path / "rows.npy"
    model.write_bytes(make_model())
    rows.write_bytes(data)
    done = run(sanitized, model, "--input", rows)
    assert (done.returncode, done.stdout) == (INPUT, "")
    assert reason in done.stderr and len(done.stderr.splitlines()) == 1


def test_both_versions_of_npy_are_read_without_a_stray_byte(
    sanitized: Path, tmp_path: Path
) -> None:
    model, rows = tmp_path / "model.onnx", tmp_path / "rows.npy"
    model.write_bytes(make_model())
    for version in (1, 2):
        rows.write_bytes(npy(GOOD, version=version))
        answer, summary = classify(sanitized, model, "--input", rows)
        assert summary["rows"] == 1 and answer["index"] == 0


def test_only_the_promised_bytes_are_loaded(program: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(make_model())
    promised = digest(model)
    model.write_bytes(make_model(bias=1.0))
    done = run(program, model, sha256=promised)
    assert (done.returncode, done.stdout) == (MODEL, "")
    assert f"expected SHA-256 {promised}, got {digest(model)}" in done.stderr


# Around the ends of SHA-256's blocks of 64 bytes, where padding takes one block or two.
@pytest.mark.parametrize("size", [1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 100_003])
def test_its_digest_is_sha256(sanitized: Path, tmp_path: Path, size: int) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(np.random.default_rng(size).bytes(size))
    done = run(sanitized, model, sha256="0" * 64)
    assert done.returncode == MODEL and f"got {digest(model)}" in done.stderr


def test_a_bad_model_is_named(program: Path, tmp_path: Path) -> None:
    for data, reason in ((b"no model", "failed"), (b"", "expected 1 to")):
        model = tmp_path / "model.onnx"
        model.write_bytes(data)
        done = run(program, model)
        assert done.returncode == MODEL and reason.lower() in done.stderr.lower()
    assert run(program, tmp_path / "missing.onnx").returncode == MODEL
    assert "not a regular file" in run(program, tmp_path).stderr


def test_scores_that_are_not_finite_are_no_answer(program: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(make_model(bias=float("inf")))
    done = run(program, model)
    assert (done.returncode, done.stdout) == (OUTPUT, "") and "not finite" in done.stderr


def test_a_runtime_that_is_missing_or_none_is_named(program: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(make_model())
    missing = run(program, model, "--library", tmp_path / "none.so")
    assert missing.returncode == RUNTIME and "no ONNX Runtime" in missing.stderr
    other = run(program, model, "--library", "libm.so.6")
    assert other.returncode == RUNTIME and "OrtGetApiBase" in other.stderr


def test_a_runtime_that_is_too_old_is_named(program: Path, tmp_path: Path) -> None:
    source, library = tmp_path / "old.c", tmp_path / "old.so"
    source.write_text("""
        static const void *get(unsigned version) { return version > 15 ? 0 : "table"; }
        static const char *name(void) { return "1.15.0"; }
        static struct { const void *(*get)(unsigned); const char *(*name)(void); } b = {get, name};
        void *OrtGetApiBase(void) { return &b; }""")
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", library, source], check=True)
    model = tmp_path / "model.onnx"
    model.write_bytes(make_model())
    done = run(program, model, "--library", library)
    assert done.returncode == RUNTIME and "1.15.0 has no interface of version 16" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("model.onnx",),
        ("model.onnx", "--sha256"),
        ("model.onnx", "--sha256", "abc"),
        ("model.onnx", "other.onnx", "--sha256", "0" * 64),
        ("model.onnx", "--sha256", "0" * 64, "--top", "0"),
        ("model.onnx", "--sha256", "0" * 64, "--threads", "many"),
        ("model.onnx", "--sha256", "0" * 64, "--repeat", "99999999999999999999"),
        ("model.onnx", "--sha256", "0" * 64, "--activation", "tanh"),
        ("model.onnx", "--sha256", "0" * 64, "--fast", "yes"),
    ],
)
def test_wrong_usage_is_named(program: Path, arguments: tuple[str, ...]) -> None:
    done = kept.run([program, *arguments])
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.startswith("edge_infer: ")


def test_no_path_of_this_machine_is_in_the_program(program: Path) -> None:
    data = program.read_bytes()
    for path in (ROOT, Path(sys.prefix), program.parent):
        assert str(path).encode() not in data
