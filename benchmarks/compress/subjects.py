"""The models that are measured, each with its data."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.compress.digits import write_sets
from benchmarks.compress.networks import mobilenet_224, resnet_50
from benchmarks.compress.train_models import MODELS, export

SEED = 7
PHOTOGRAPHS = 8
DEMO_DATA = Path(__file__).resolve().parents[2] / "demo" / "data"


@dataclass(frozen=True)
class Subject:
    """A model with the sets it is calibrated and judged on.

    `calibration` is None for a model of random weights: nothing is true about its accuracy, so only
    size and latency are measured, and random calibration is allowed.
    """

    name: str
    model: Path
    calibration: Path | None
    evaluation: Path
    min_calibration: int = 1000

    @property
    def is_trained(self) -> bool:
        """Whether its accuracy means something."""
        return self.calibration is not None


def digit_subjects(folder: Path) -> list[Subject]:
    """The two trained models, checked against SHA256SUMS."""
    check_sums(MODELS)
    calibration, evaluation = write_sets(folder)
    return [
        Subject(name, MODELS / f"{name}.onnx", calibration, evaluation)
        for name in ("digits-mobilenet", "digits-resnet")
    ]


def demo_subject() -> Subject:
    """The model of the demonstration with its own 200 and 500 rows, checked against SHA256SUMS."""
    check_sums(DEMO_DATA)
    return Subject(
        "demo-digits",
        DEMO_DATA / "digits-cnn-1.1.0.onnx",
        DEMO_DATA / "calibration.npz",
        DEMO_DATA / "eval.npz",
        min_calibration=100,
    )


def random_subjects(folder: Path) -> list[Subject]:
    """MobileNetV2 and ResNet-50 for 224x224 with seeded random weights."""
    generator = np.random.default_rng(SEED)
    evaluation = folder / "photographs.npz"
    images = generator.normal(size=(PHOTOGRAPHS, 3, 224, 224)).astype(np.float32)
    np.savez(evaluation, x=images)
    subjects = []
    for name, build in (("mobilenetv2-224", mobilenet_224), ("resnet50-224", resnet_50)):
        torch.manual_seed(SEED)
        network = build()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                # Keeps the scale of activations from layer to layer without batch norms.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                # Equal biases would be stored once, which a trained model's never are.
                nn.init.normal_(module.bias, std=0.01)
        path = folder / f"{name}.onnx"
        export(network.eval(), path, (3, 224, 224))
        subjects.append(Subject(name, path, None, evaluation))
    return subjects


def check_sums(folder: Path) -> None:
    """Refuses models that are not the committed ones."""
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split()
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise ValueError(f"{name}: expected SHA-256 {expected}, found {found}.")
