"""Each pass declares itself once, and its declaration reaches everything that knows of passes."""

import json
import sys
from pathlib import Path

import pytest

from compression.recipe.declaration import Parameter, Pass
from compression.recipe.passes import PASSES
from compression.recipe.provenance import job_identity, step_keys
from compression.recipe.recipe import parse_recipe
from compression.recipe.sources import (
    ROOT,
    digest_sources,
    find_module,
    list_imported,
    list_sources,
    pass_identity,
)
from servers.kept import run

FOLDER = Path(sys.modules["compression.recipe.passes"].__path__[0])


def test_every_file_of_the_folder_is_a_pass_named_after_it():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert {name.replace(".", "_") for name in PASSES} == files


def test_the_declarations_import_no_tooling_and_no_django():
    code = (
        "import sys, compression.recipe.recipe, compression.recipe.provenance\n"
        "heavy = 'django numpy onnx onnxruntime jax torch'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = run([sys.executable, "-c", code], cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", PASSES)
def test_a_change_of_any_file_that_a_pass_imports_changes_its_identity(name):
    sources = list_sources(PASSES[name])
    before = digest_sources(sources)
    assert before == pass_identity(name)
    assert find_module(PASSES[name].load().__module__) in sources
    for path in sources:
        text = path.read_text()
        assert digest_sources(sources, {path: f"{text}\nCHANGED = True\n"}) != before, path
    touched = {
        path: f'"""Another docstring."""\n# and a comment\n{path.read_text()}' for path in sources
    }
    assert digest_sources(sources, touched) == before


def test_everything_that_is_imported_to_run_the_passes_is_among_their_sources():
    code = (
        "import json, sys\n"
        "from compression.recipe.passes import PASSES\n"
        "for declared in PASSES.values(): declared.load()\n"
        "import compression.engine.training.finetune, compression.engine.training.distillation\n"
        "names = [n for n in sys.modules if n.split('.')[0] in ('compression', 'registry')]\n"
        "print(json.dumps(names))"
    )
    done = run([sys.executable, "-c", code], cwd=ROOT)
    loaded = {find_module(name) for name in json.loads(done.stdout)}
    known = frozenset().union(*(list_sources(declared) for declared in PASSES.values()))
    # A declaration decides nothing beyond what stands in the key by itself.
    declared = frozenset().union(*(list_imported(path) for path in FOLDER.glob("*.py")))
    assert loaded - known - declared == set()


@pytest.mark.parametrize("name", PASSES)
def test_a_key_depends_on_what_its_pass_reads_and_on_nothing_else(name):
    changes = {
        "calibration": lambda document: ({}, "c" * 64, {}),
        "evaluation": lambda document: ({"data": {"evaluation": "e" * 64}}, None, {}),
        "isa": lambda document: ({"target": {"isa": "npu"}}, None, {}),
        "target": lambda document: ({"target": {"threads": 3}}, None, {}),
        "search": lambda document: ({"search": {"trials": 3}}, None, {}),
        "gates": lambda document: ({"gates": {"max_bytes": 3}}, None, {}),
        "scoring": lambda document: ({}, None, {"activation": "softmax"}),
        "limits": lambda document: ({"limits": {"threads": 1}}, None, {}),
    }
    base = {"schema": "compress/1", "passes": [{"pass": name}]}
    before = step_keys("a" * 64, parse_recipe(base), None)
    reads = PASSES[name].reads
    for thing, change in changes.items():
        sections, calibration, contract = change(base)
        recipe = parse_recipe({**base, **sections})
        after = step_keys("a" * 64, recipe, calibration, contract=contract)
        is_read = thing in reads or (thing == "isa" and "target" in reads)
        assert (after != before) == is_read, thing


def test_a_job_s_identity_changes_with_the_code_of_its_passes(monkeypatch):
    recipe = parse_recipe({"schema": "compress/1", "passes": [{"pass": "prepare"}]})
    before = job_identity("a" * 64, recipe), step_keys("a" * 64, recipe, None)
    monkeypatch.setattr("compression.recipe.provenance.pass_identity", lambda name: "other")
    after = job_identity("a" * 64, recipe), step_keys("a" * 64, recipe, None)
    assert before[0] != after[0] and before[1] != after[1]


def test_a_declaration_that_cannot_be_right_is_refused():
    with pytest.raises(ValueError, match=r"reads \['labels'\]"):
        Pass("one", "One", "compression.engine.passes.prepare:prepare", reads=frozenset({"labels"}))
    with pytest.raises(ValueError, match="its default: expected at most 2"):
        Pass("one", "One", lambda _: None, {"bits": Parameter("int", 1, 2, default=3)})
