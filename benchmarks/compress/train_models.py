"""Trains the two digit models of the benchmark and writes them to `models/` with SHA256SUMS.

Run it with the packages of requirements.txt beside this file, as
`.venv-bench/bin/python -m benchmarks.compress.train_models [mobilenet] [resnet]`. Each takes two to
ten minutes on one core. The files hold the networks with their batch norms folded away; the
weights keep the names they have in `networks.py`.
"""

import argparse
import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.compress.digits import (
    DIGITS_FILE,
    EVALUATION_COPIES,
    EVALUATION_SEED,
    Digits,
    distort,
    load_digits,
    make_set,
)
from benchmarks.compress.networks import digit_mobilenet, digit_resnet

MODELS = Path(__file__).with_name("models")
SEED, BATCH, WEIGHT_DECAY, OPSET = 5, 64, 1e-4, 17
PLANS = {
    "mobilenet": (digit_mobilenet, 110, 4e-3),
    "resnet": (digit_resnet, 60, 2e-3),
}


def write_digits() -> None:
    """Keeps scikit-learn's digits as bytes, 0 to 16 per pixel."""
    from sklearn import datasets  # kept in digits.npz, so that only this step needs it

    digits = datasets.load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    np.savez_compressed(DIGITS_FILE, images=images, labels=labels)


def train(network: nn.Module, name: str, epochs: int, rate: float, train_set: Digits) -> None:
    """Trains in place on distortions that are drawn anew in every epoch."""
    generator = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=WEIGHT_DECAY)
    batches = len(train_set) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches)
    for epoch in range(epochs):
        network.train()
        order = generator.permutation(len(train_set))
        x = torch.from_numpy(distort(train_set.images[order], generator))
        y = torch.from_numpy(train_set.labels[order])
        for start in range(0, batches * BATCH, BATCH):
            optimizer.zero_grad()
            scores = network(x[start : start + BATCH])
            loss = nn.functional.cross_entropy(scores, y[start : start + BATCH])
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 9:
            print(f"{name}: epoch {epoch + 1} of {epochs}, loss {loss.item():.4f}", flush=True)


def fold_batch_norms(network: nn.Module) -> None:
    """Replaces every convolution and its batch norm by one convolution, names as in `folded`."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        layers: list[nn.Module] = []
        for layer in module:
            if isinstance(layer, nn.BatchNorm2d):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        module._modules.clear()
        for index, layer in enumerate(layers):
            module.add_module(str(index), layer)


def measure_accuracy(network: nn.Module, held_out: Digits) -> float:
    """The share of the benchmark's evaluation set that the network gets right."""
    samples = make_set(held_out, EVALUATION_COPIES, EVALUATION_SEED)
    network.eval()
    with torch.no_grad():
        scores = torch.cat([network(part) for part in torch.from_numpy(samples["x"]).split(500)])
    return float((scores.argmax(1).numpy() == samples["y"]).mean())


def export(network: nn.Module, path: Path, shape: tuple[int, int, int] = (1, 32, 32)) -> None:
    """Writes an ONNX file for inputs [n, *shape] with a free batch axis."""
    with warnings.catch_warnings():
        # The newer exporter needs another package and renames every weight.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            str(path),
            input_names=["x"],
            output_names=["scores"],
            dynamic_axes={"x": {0: "n"}, "scores": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )


def write_sums() -> None:
    """Writes the SHA-256 of every model, as `sha256sum --check` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(MODELS.glob("*.onnx"))
    ]
    (MODELS / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(PLANS)}; all by default")
    parser.add_argument("--epochs", type=int, help="instead of the plan's own")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not DIGITS_FILE.exists():
        write_digits()
    MODELS.mkdir(exist_ok=True)
    train_set, held_out = load_digits()
    for name in arguments.names or PLANS:
        build, epochs, rate = PLANS[name]
        torch.manual_seed(SEED)
        network = build()
        train(network, name, arguments.epochs or epochs, rate, train_set)
        network.eval()
        before = measure_accuracy(network, held_out)
        fold_batch_norms(network)
        after = measure_accuracy(network, held_out)
        export(network, MODELS / f"digits-{name}.onnx")
        count = sum(item.numel() for item in network.parameters())
        print(f"{name}: accuracy {before:.4f}, folded {after:.4f}, {count} parameters", flush=True)
    write_sums()


if __name__ == "__main__":
    main()
