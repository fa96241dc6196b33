"""What preflight says, from facts alone."""

from dataclasses import replace

import onnx
import pytest

from compression.exceptions import ModelUnsupportedError, RecipeInvalidError
from compression.models import Job
from compression.recipe.facts import GraphFacts, TensorFacts
from compression.recipe.graph_facts import read_facts
from compression.recipe.preflight import list_findings
from compression.recipe.presets import PRESETS
from compression.recipe.recipe import parse_recipe
from registry.models import Version
from tests.factories import exports
from tests.factories.compression import make_job, make_version
from tests.factories.odd_models import COMPRESSIBLE

FACTS = GraphFacts(
    opset=17,
    inputs=(TensorFacts("x", "float32", (None, 3, 8, 8)),),
    outputs=(TensorFacts("y", "float32", (None, 4)),),
    weighted={"Conv": 5, "Gemm": 1},
    weight_bytes=10_000,
    largest_activation_bytes=10_000,
    file_bytes=11_000,
)


def make_recipe(*passes, **sections):
    document = {"schema": "compress/1", "passes": [{"pass": name} for name in passes], **sections}
    return parse_recipe(document)


def refusals(facts, recipe):
    return [item.message for item in list_findings(facts, recipe) if item.is_refusal]


def with_input(*shape, dtype="float32", kind="tensor"):
    return {"inputs": (TensorFacts("x", dtype, shape, kind, 0 if shape else None),)}


STATIC = ("prepare", "quantize.static")
CASES = {
    "old opset": ({"opset": 6}, STATIC, "Opset 6"),
    "no opset": ({"opset": 0}, STATIC, "no operator of ONNX's own set"),
    "no input": ({"inputs": ()}, STATIC, "no input"),
    "complex": (with_input(None, 1, dtype="complex64"), STATIC, "complex64"),
    "sequence": (with_input(kind="sequence"), STATIC, "is a sequence"),
    "optional": (with_input(kind="optional"), STATIC, "is a optional"),
    "scalar": (with_input(), STATIC, "No input has an axis"),
    "zero": (with_input(None, 0), STATIC, "dimension of 0"),
    "negative": (with_input(None, -1), STATIC, "dimension of -1"),
    "2^40": (with_input(None, 2**40), STATIC, "1,099,511,627,776"),
    "map output": (
        {"outputs": (TensorFacts("y", "", None, "map"),)},
        STATIC,
        "Output 'y' is a map",
    ),
    "quantized": ({"quantized": ("QLinearConv",)}, STATIC, "quantized already"),
    "quantized, half": ({"quantized": ("QLinearConv",)}, ("convert.fp16",), "quantized already"),
    "half weights": ({"other_weight_types": ("FLOAT16",)}, STATIC, "FLOAT16"),
    "foreign": ({"foreign": ("Evil",)}, STATIC, "Evil"),
    "nothing": ({"weighted": {}}, STATIC, "nothing to work on"),
    "recurrent, static": ({"weighted": {"LSTM": 1}}, STATIC, "nothing to work on"),
    "table, pruned": ({"weighted": {"Gather": 1}}, ("prune.structured",), "nothing to work on"),
    "loop, pruned": ({"control_flow": ("Loop",)}, ("prune.structured",), "into Loop"),
    "weights": ({"weight_bytes": 2 * 1024**3}, STATIC, "bytes are needed"),
    "activation": ({"largest_activation_bytes": 3 * 1024**3}, STATIC, "bytes are needed"),
    "untrainable": ({"operators": ("Conv", "LRN")}, ("finetune.kd",), "train through LRN."),
    "student of a table": (with_input(None, 8), ("distill.student",), "image classifiers"),
    "student of tokens": (
        with_input(None, 3, 8, 8, dtype="int64"),
        ("distill.student",),
        "image classifiers",
    ),
    "student of two outputs": (
        {"outputs": (TensorFacts("y", "float32", (None, 4)),) * 2},
        ("distill.student",),
        "image classifiers",
    ),
    "twice": ({}, ("quantize.static", "quantize.weights"), "must be the last"),
    "prepared after": ({}, ("quantize.static", "prepare"), "must be the last"),
    "half first": ({}, ("convert.fp16", "quantize.static"), "must be the last"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_work_is_refused_in_a_sentence(case):
    over, passes, words = CASES[case]
    found = refusals(replace(FACTS, **over), make_recipe(*passes))
    assert any(words in message for message in found), found


def test_integer_operators_for_16_bits_are_refused():
    step = {"pass": "quantize.static", "format": "qoperator", "activation": "quint16"}
    recipe = parse_recipe({"schema": "compress/1", "passes": [step]})
    assert refusals(FACTS, recipe) == [
        "QOperator computes in 8 bits; activation quint16 needs the format qdq."
    ]


FINE = {
    "recurrent, dynamic": ({"weighted": {"LSTM": 1}}, ("quantize.dynamic",)),
    "table, weights": ({"weighted": {"Gather": 1}}, ("quantize.weights",)),
    "loop, static": ({"control_flow": ("Loop",)}, STATIC),
    "untrainable, static": ({"operators": ("LRN",)}, STATIC),
    "student of any size": (with_input(None, 3, None, None), ("distill.student",)),
    "free size": (with_input(None, 3, None, None), STATIC),
    "texts": (with_input(None, 1, dtype="string"), STATIC),
    "a rate beside rows": (
        {"inputs": (*FACTS.inputs, TensorFacts("rate", "int64", (), batch_axis=None))},
        STATIC,
    ),
    "rows on another axis": (
        {"inputs": (TensorFacts("x", "float32", (7, None, 3), batch_axis=1),)},
        STATIC,
    ),
    "no shape known": ({"outputs": (TensorFacts("y", "float32", None),)}, STATIC),
}


@pytest.mark.parametrize("case", FINE)
def test_what_can_work_is_not_refused(case):
    over, passes = FINE[case]
    assert refusals(replace(FACTS, **over), make_recipe(*passes)) == []


@pytest.mark.parametrize("slug", PRESETS)
def test_no_preset_is_refused_on_a_plain_model(slug):
    assert refusals(FACTS, parse_recipe(PRESETS[slug].recipe)) == []


def test_what_stays_as_it_is_is_a_warning():
    facts = replace(FACTS, weighted={"Conv": 1, "LSTM": 2}, inner_weights=3, control_flow=("If",))
    messages = [item.message for item in list_findings(facts, make_recipe(*STATIC))]
    assert messages == [
        "3 weights inside If stay as they are.",
        "quantize.static leaves the weights of LSTM as they are.",
    ]


def test_random_data_cannot_fill_free_dimensions():
    facts = replace(FACTS, **with_input(None, 3, None, None))
    recipe = make_recipe(*STATIC, data={"allow_random": True})
    assert refusals(facts, recipe) == [
        "Input 'x' has free dimensions, which random data cannot fill."
    ]


def test_facts_are_read_from_a_file(tmp_path):
    onnx.save(COMPRESSIBLE["integer_tokens"]().model, str(tmp_path / "model.onnx"))
    facts = read_facts(tmp_path / "model.onnx")
    assert facts.inputs == (TensorFacts("ids", "int64", (None, 12)),)
    assert facts.weighted == {"Gather": 1, "MatMul": 2}
    assert {"Gather", "MatMul"} <= set(facts.operators)
    assert facts.weight_bytes == 4 * (200 * 16 + 16 * 32 + 32 * 4)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelUnsupportedError, match="not an ONNX model"):
        read_facts(tmp_path / "model.onnx")


@pytest.mark.django_db
def test_an_order_that_cannot_work_queues_nothing():
    version = make_version()
    twice = [{"pass": "quantize.dynamic"}, {"pass": "quantize.weights"}]
    with pytest.raises(RecipeInvalidError, match="must be the last"):
        make_job(version, preset="", recipe={"schema": "compress/1", "passes": twice})
    signature = {"inputs": [{"name": "x", "dtype": "complex64", "shape": ["n", 1]}]}
    Version.objects.filter(pk=version.pk).update(signature=signature)
    version.refresh_from_db()
    with pytest.raises(ModelUnsupportedError, match="of type complex64"):
        make_job(version)
    assert not Job.objects.exists()


PRUNED_STUDENTS = {
    "table": (with_input(None, 8), ""),
    "untrainable": ({"operators": ("Conv", "LRN")}, "distill.student has no rule to train through"),
    "loop": ({"control_flow": ("Loop",)}, "distill.student does not follow tensors into Loop"),
    "nothing to prune": ({"weighted": {"Gather": 1}}, "distill.student finds nothing to work on"),
}


@pytest.mark.parametrize("case", PRUNED_STUDENTS)
def test_a_pruned_student_wants_what_pruning_and_training_want(case):
    over, words = PRUNED_STUDENTS[case]
    document = {"schema": "compress/1", "passes": [{"pass": "distill.student", "blocks": "pruned"}]}
    found = refusals(replace(FACTS, **over), parse_recipe(document))
    assert any(words in message for message in found) if words else found == []


def test_a_classifier_with_maps_is_told_how_to_do_without(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(exports.forest(zipmap=True, classes=[0, 1, 2]))
    found = refusals(read_facts(path, {}), make_recipe(*STATIC))
    assert any("zipmap=False" in message for message in found)
