"""Training is optional: what is refused without it, what goes on, and who may import it."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from servers.kept import run

REPOSITORY = Path(__file__).resolve().parents[3]
# Hides the packages from imports and from searches, as if they had never been installed.
WITHOUT_ENGINE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def run_python(code):
    return run([sys.executable, "-c", code], cwd=REPOSITORY)


def chain(passes):
    return f"""
import json, shutil, sys, tempfile
from pathlib import Path
from compression.engine.run_recipe import run_chain
from compression.exceptions import CompressionError
with tempfile.TemporaryDirectory() as name:
    scratch = Path(name)
    for source, target in (("digits-cnn-1.1.0.onnx", "m.onnx"), ("eval.npz", "e.npz"),
                           ("calibration.npz", "c.npz")):
        shutil.copy(Path("demo/data") / source, scratch / target)
    recipe = {{"schema": "compress/1", "passes": {passes!r}, "data": {{"min_calibration": 100}}}}
    order = {{"recipe": recipe, "source": "m.onnx", "calibration": "c.npz",
              "evaluation": "e.npz", "done": []}}
    try:
        print(run_chain(order, scratch, lambda *_, **__: None)["outcome"])
    except CompressionError as error:
        print(error.http_status, error.code, error)
"""


@pytest.mark.parametrize("name", ["finetune.kd", "distill.student"])
def test_without_an_engine_a_pass_that_trains_says_how_to_install_it(name):
    done = run_python(WITHOUT_ENGINE + chain([{"pass": name}]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"422 training_unavailable {name}: training needs JAX or PyTorch")
    assert "pip install -r requirements-distill.txt" in done.stdout


def test_without_an_engine_every_other_pass_works():
    passes = [
        {"pass": "prepare"},
        {"pass": "prune.structured", "allocation": "uniform"},
        {"pass": "quantize.static"},
    ]
    done = run_python(WITHOUT_ENGINE + chain(passes))
    assert (done.returncode, done.stdout.strip()) == (0, "passed"), done.stderr


def read_pins(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_command_that_is_named_installs_the_versions_the_tests_use():
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    assert read_pins("requirements-distill.txt") == [f"{n}=={v}" for n, v in versions.items()]
    production = read_pins("requirements.txt")
    assert not [pin for pin in production if pin.startswith(("jax", "torch"))]


def test_neither_web_nor_worker_imports_an_engine():
    done = run_python(
        "import os, sys\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings')\n"
        "import django\n"
        "django.setup()\n"
        "import config.urls, config.celery, compression.tasks, compression.services.running\n"
        "print({'jax', 'torch'}.isdisjoint(sys.modules))\n"
        "print('compression.services.jobs' in sys.modules)\n"
    )
    assert done.stdout.split() == ["True", "True"], done.stderr
