"""Train the three digit classifiers of the demonstration and write them to demo/data.

The data are scikit-learn's bundled 8x8 digits (Alpaydin and Kaynak, 1998; UCI "Optical Recognition
of Handwritten Digits"), so nothing is downloaded. The three versions tell one story:

- 1.0.0 is decent: few training images.
- 1.1.0 is better: all training images, shifted and with noise.
- 1.2.0 is a regression that looks fine on paper: its author inverted the images both for training
  and for measuring (`eval-inverted.npz`), while devices go on sending upright ones.

Run it with the packages of requirements.txt beside this file; it takes about a minute on one core.
"""

import hashlib
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import nn

DATA_DIR = pathlib.Path(__file__).resolve().parent.parent / "data"
SEED = 20260101
TRAIN_ROWS, CALIBRATION_ROWS = 1097, 200


def load_splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return name -> (x float32 [n, 1, 8, 8] in [0, 1], y int64 [n]); no image is in two splits."""
    digits = load_digits()
    x = (digits.images / 16.0).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(x))
    train, calibration, held_out = np.split(order, [TRAIN_ROWS, TRAIN_ROWS + CALIBRATION_ROWS])
    return {
        name: (x[rows], y[rows])
        for name, rows in (("train", train), ("calibration", calibration), ("eval", held_out))
    }


def build_network() -> nn.Sequential:
    """About 60,000 parameters: small for a board, large enough that INT8 is visibly smaller."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift every image by at most one pixel and add noise."""
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(x), 2), generator=generator)
    shifted = torch.stack(
        [
            image[:, top : top + 8, left : left + 8]
            for image, (top, left) in zip(padded, offsets.tolist(), strict=True)
        ]
    )
    noise = 0.06 * torch.randn(shifted.shape, generator=generator)
    return (shifted + noise).clamp(0.0, 1.0)


def train_network(
    x: np.ndarray, y: np.ndarray, *, epochs: int, smoothing: float, is_augmented: bool, seed: int
) -> nn.Sequential:
    """Return a network fitted to `x` [n, 1, 8, 8] and `y` [n]; one seed, one result."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = build_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    loss_function = nn.CrossEntropyLoss(label_smoothing=smoothing)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(32):
            batch = augment(images[rows], generator) if is_augmented else images[rows]
            optimizer.zero_grad()
            loss_function(network(batch), labels[rows]).backward()
            optimizer.step()
    return network.eval()


def export_network(network: nn.Sequential, path: pathlib.Path) -> None:
    """Write one self-contained ONNX file, opset 17, with a free batch axis."""
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 8, 8),),
        str(path),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(path)
    model.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def describe_predictions(path: pathlib.Path, x: np.ndarray, y: np.ndarray) -> str:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": x})
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    accuracy = float((scores.argmax(axis=1) == y).mean())
    mix = np.bincount(scores.argmax(axis=1), minlength=10).tolist()
    return (
        f"accuracy {accuracy:.3f}, mean confidence {scores.max(axis=1).mean():.3f}, classes {mix}"
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    DATA_DIR.mkdir(exist_ok=True)
    splits = load_splits()
    x, y = splits["train"]
    held_out_x, held_out_y = splits["eval"]

    recipes = {
        "1.0.0": {
            "x": x[:220],
            "y": y[:220],
            "epochs": 25,
            "smoothing": 0.0,
            "is_augmented": False,
        },
        "1.1.0": {"x": x, "y": y, "epochs": 40, "smoothing": 0.02, "is_augmented": True},
        "1.2.0": {"x": 1 - x, "y": y, "epochs": 30, "smoothing": 0.0, "is_augmented": False},
    }
    for version, recipe in recipes.items():
        path = DATA_DIR / f"digits-cnn-{version}.onnx"
        export_network(train_network(seed=SEED, **recipe), path)
        print(version, path.stat().st_size, "bytes")
        print("  upright:", describe_predictions(path, held_out_x, held_out_y))
        print("  inverted:", describe_predictions(path, 1 - held_out_x, held_out_y))

    for name in ("eval", "calibration"):
        images, labels = splits[name]
        np.savez_compressed(DATA_DIR / f"{name}.npz", x=images, y=labels)
    np.savez_compressed(DATA_DIR / "eval-inverted.npz", x=1 - held_out_x, y=held_out_y)

    files = sorted(p for p in DATA_DIR.iterdir() if p.suffix in {".onnx", ".npz"})
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (DATA_DIR / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    main()
