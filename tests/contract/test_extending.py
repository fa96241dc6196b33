"""The examples of docs/extending.md, run as they stand there."""

import importlib.util
import re
import sys
import types
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from django.urls import reverse

import edge_agent.config.provider_options as provider_options
import fleet.rules.gate_metrics as gate_metrics
import ingest.services.telemetry_evidence as telemetry_evidence
from compression.engine.run_recipe import run_chain
from compression.engine.search.space import list_formats
from compression.exceptions import RecipeInvalidError
from compression.recipe.facts import GraphFacts
from compression.recipe.passes import PASSES
from compression.recipe.preflight import list_findings
from compression.recipe.provenance import step_keys
from compression.recipe.recipe import parse_recipe
from compression.recipe.sources import digest_sources, list_sources, pass_identity
from compression.worker.estimates import expect_seconds
from fleet.models import Device, Gate, Telemetry
from ingest.services.evidence import push_all_evidence
from tests.factories.compression import make_model, make_samples, make_version
from tests.ingest.canaries import BEGAN, EVEN, NOW, answers, make_canary_rollout, report

ROOT = Path(provider_options.__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(BLOCK.findall((ROOT / "docs" / "extending.md").read_text()))


def read_row(path: str, module: types.ModuleType, brackets: str = "[]") -> Any:
    """A row of a list, or of a dict, as its file would read it."""
    opening, closing = brackets
    return eval(opening + EXAMPLES[path] + closing, vars(module))  # noqa: S307 (our own document)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The pass of the document, registered as a file of the folder is."""
    (name,) = (path for path in EXAMPLES if path.startswith("compression/recipe/passes/"))
    path = tmp_path / Path(name).name
    path.write_text(EXAMPLES[name])
    spec = importlib.util.spec_from_file_location("round_weights", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "round_weights", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(PASSES, module.PASS.name, module.PASS)
    yield module.PASS, path
    pass_identity.cache_clear()


def recipe_of(**parameters):
    passes = [{"pass": "prepare"}, {"pass": "round.weights", **parameters}]
    return parse_recipe({"schema": "compress/1", "passes": passes})


def test_the_example_pass_makes_a_variant(example, tmp_path):
    onnx.save(make_model(), str(tmp_path / "model.onnx"))
    x, y = make_samples(300, seed=5)
    np.savez(tmp_path / "evaluation.npz", x=x, y=y)
    order = {
        "recipe": recipe_of(bits=6).to_json(),
        "source": "model.onnx",
        "evaluation": "evaluation.npz",
        "done": [],
    }
    found = run_chain(order, tmp_path, lambda *_, **__: None)
    assert found["outcome"] == "passed", found["gates"]
    packed = [found[side]["compressed_bytes"] for side in ("source", "variant")]
    assert packed[1] < 0.7 * packed[0]
    assert found["passes"][1]["facts"]["tensors"] >= 4


def test_recipe_preflight_estimate_and_search_follow_from_the_example(example):
    declared, _ = example
    assert recipe_of().passes[1].parameters == {"bits": 8, "exclude": None}
    with pytest.raises(RecipeInvalidError, match="bits: expected at most 23"):
        recipe_of(bits=24)
    facts = GraphFacts(opset=17, inputs=(), outputs=(), weighted={"LSTM": 2})
    messages = [item.message for item in list_findings(facts, recipe_of())]
    assert any("The graph has no input" in message for message in messages)
    assert any("finds nothing" in text for text in declared.list_obstacles({}, facts))
    assert expect_seconds(["round.weights"], []) == {"round.weights": 1.0}
    assert list_formats()[-1].name == "rounded"
    assert list_formats()[-1].steps == ({"pass": "round.weights"},)


def test_the_example_s_results_are_kept_by_parameters_and_code(example):
    declared, path = example
    base = step_keys("a" * 64, recipe_of(), None)
    assert step_keys("a" * 64, recipe_of(bits=9), None)[1] != base[1]
    assert step_keys("a" * 64, recipe_of(), "b" * 64) == base
    sources = list_sources(declared)
    assert path in sources and any(item.name == "weights.py" for item in sources)
    changed = path.read_text().replace("np.rint", "np.floor")
    assert digest_sources(sources, {path: changed}) != digest_sources(sources)


@pytest.mark.django_db
def test_api_and_form_show_the_example_pass(example, admin_client):
    rows = admin_client.get("/api/v1/compression/passes/").json()
    (row,) = (row for row in rows if row["name"] == "round.weights")
    assert row["title"] == example[0].title and row["targets"]
    assert [item["name"] for item in row["parameters"]] == ["bits", "exclude"]
    page = admin_client.get(
        reverse("admin:compression_job_add"), {"version": make_version().pk}
    ).content.decode()
    assert "round.weights" in page and "bits: 4 to 23 (else 8)" in page


@pytest.mark.django_db
def test_the_example_metric_judges_a_rollout(monkeypatch):
    (row,) = read_row("fleet/rules/gate_metrics.py", gate_metrics)
    path = "ingest/services/telemetry_evidence.py"
    readings = read_row(path, telemetry_evidence, "{}")
    monkeypatch.setitem(gate_metrics.METRICS, row.name, row)
    for name, reading in readings.items():
        monkeypatch.setitem(telemetry_evidence.READINGS, name, reading)
    rollout = make_canary_rollout()
    Gate.objects.create(rollout=rollout, metric=row.name, threshold=row.margin)
    report(rollout, EVEN)
    for index in range(12):
        device = Device.objects.get(device_id=f"edge-{index}")
        for minute in range(8):
            load = 20.0 + 0.1 * ((index + minute) % 3)
            for at, factor in ((-20 - minute, 1.0), (90 + minute, 2.0 if index < 5 else 1.0)):
                said = Telemetry.objects.create(
                    device=device, resources={"cpu_percent": factor * load}
                )
                received = BEGAN + timedelta(minutes=at)
                Telemetry.objects.filter(pk=said.pk).update(received_at=received)
    push_all_evidence(now=NOW)
    found = answers()[row.name]
    assert (found.verdict, gate_metrics.value_words(row.name, found.value)) == ("fail", "2 ×")


def test_the_example_provider_is_all_that_the_agent_needs():
    path = "edge_agent/config/provider_options.py"
    text = (ROOT / path).read_text()
    end = "    )\n}\nOPTIONS = "
    assert text.count(end) == 1
    module = types.ModuleType(provider_options.__name__)
    code = compile(text.replace(end, f"{EXAMPLES[path]},\n{end}"), path, "exec")
    # Its dataclasses look their own module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, provider_options.__name__, module)
        exec(code, vars(module))  # noqa: S102 (our own file)
    name = set(module.PROVIDERS) - set(provider_options.PROVIDERS)
    assert name == {"xnnpack"}
    assert module.complete_options("xnnpack", {}, threads=3, cache=None) == {
        "intra_op_num_threads": "3"
    }
    assert module.encode_options("xnnpack", {"intra_op_num_threads": 4}) == {
        "intra_op_num_threads": "4"
    }
    with pytest.raises(Exception, match="has no option speed"):
        module.encode_options("xnnpack", {"speed": 1})
