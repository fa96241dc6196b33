"""PyTorch is optional: what is refused without it, what goes on, and who may import it."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
# Hides the package from imports and from searches, as if it had never been installed.
WITHOUT_TORCH = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
sys.modules["torch"] = None
"""


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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
def test_without_torch_a_pass_that_trains_says_how_to_install_it(name):
    done = run_python(WITHOUT_TORCH + chain([{"pass": name}]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"422 training_unavailable {name}: training needs PyTorch")
    assert "pip install -r requirements-distill.txt" in done.stdout


def test_without_torch_every_other_pass_works():
    passes = [
        {"pass": "prepare"},
        {"pass": "prune.structured", "allocation": "uniform"},
        {"pass": "quantize.static"},
    ]
    done = run_python(WITHOUT_TORCH + chain(passes))
    assert (done.returncode, done.stdout.strip()) == (0, "passed"), done.stderr


def test_the_command_that_is_named_installs_the_version_the_tests_use():
    import torch

    lines = (REPOSITORY / "requirements-distill.txt").read_text().splitlines()
    (pin,) = [line for line in lines if line and not line.startswith("#")]
    assert pin == f"torch=={torch.__version__.partition('+')[0]}"
    assert "torch" not in (REPOSITORY / "requirements.txt").read_text()


def test_neither_web_nor_worker_imports_torch():
    done = run_python(
        "import os, sys\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings')\n"
        "import django\n"
        "django.setup()\n"
        "import config.urls, config.celery, compression.tasks, compression.services.running\n"
        "print('torch' in sys.modules, 'compression.services.jobs' in sys.modules)\n"
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
