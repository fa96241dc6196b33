"""The data of the benchmark: bundled digits, distorted until the task is hard.

The source are scikit-learn's 8x8 digits (Alpaydin and Kaynak, 1998; UCI "Optical Recognition of
Handwritten Digits"), kept in `digits.npz` so that nothing but numpy is needed. Every set is made
anew from them by a seeded generator; no digit is in two of the three sets.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIGITS_FILE = Path(__file__).with_name("digits.npz")
SIDE = 32
TRAIN_DIGITS, CALIBRATION_COPIES, EVALUATION_COPIES = 1297, 3, 10
ROTATION_DEGREES, SCALE_SHARE, SHIFT_PIXELS, NOISE = 30.0, 0.25, 4.0, 0.45
SPLIT_SEED, CALIBRATION_SEED, EVALUATION_SEED = 0, 1, 2


@dataclass(frozen=True)
class Digits:
    """Clean digits: `images` float32 [n, 8, 8] in [0, 1], `labels` int64 [n] in 0..9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(path: Path = DIGITS_FILE) -> tuple[Digits, Digits]:
    """The digits to train on and those to judge on, always split in the same way."""
    with np.load(path, allow_pickle=False) as archive:
        images = archive["images"].astype(np.float32) / 16.0
        labels = archive["labels"].astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    train, held_out = order[:TRAIN_DIGITS], order[TRAIN_DIGITS:]
    return Digits(images[train], labels[train]), Digits(images[held_out], labels[held_out])


def distort(images: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Digits [n, 8, 8] as normalized float32 images [n, 1, 32, 32], each turned, scaled and shifted
    at random (bilinear), with Gaussian noise on top."""
    count = len(images)
    angle = np.deg2rad(generator.uniform(-ROTATION_DEGREES, ROTATION_DEGREES, count))
    scale = 1.0 + generator.uniform(-SCALE_SHARE, SCALE_SHARE, count)
    shift = generator.uniform(-SHIFT_PIXELS, SHIFT_PIXELS, (2, count))
    centre = (SIDE - 1) / 2
    down, right = np.meshgrid(np.arange(SIDE) - centre, np.arange(SIDE) - centre, indexing="ij")
    x = right - shift[0][:, None, None]
    y = down - shift[1][:, None, None]
    cosine, sine = ((f(angle) / scale)[:, None, None] for f in (np.cos, np.sin))
    # One source pixel covers 3.2 target pixels, so that the digit leaves a margin; one pixel of
    # zeros around it lets the interpolation run off the edge.
    column = np.clip((cosine * x - sine * y) / 3.2 + 4.5, 0.0, 8.999)
    row = np.clip((sine * x + cosine * y) / 3.2 + 4.5, 0.0, 8.999)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    i, j = row.astype(int), column.astype(int)
    below, beside = row - i, column - j
    k = np.arange(count)[:, None, None]
    result = (
        padded[k, i, j] * (1 - below) * (1 - beside)
        + padded[k, i + 1, j] * below * (1 - beside)
        + padded[k, i, j + 1] * (1 - below) * beside
        + padded[k, i + 1, j + 1] * below * beside
    )
    result += generator.normal(0.0, NOISE, result.shape)
    return ((result[:, None] - 0.3) / 0.4).astype(np.float32)


def make_set(digits: Digits, copies: int, seed: int) -> dict[str, NDArray]:
    """`copies` distortions of every digit: `x` [n, 1, 32, 32] and labels `y` [n]."""
    generator = np.random.default_rng(seed)
    x = np.concatenate([distort(digits.images, generator) for _ in range(copies)])
    return {"x": x, "y": np.tile(digits.labels, copies)}


def write_sets(folder: Path) -> tuple[Path, Path]:
    """Writes sets to calibrate on (3,891 rows) and to judge on (5,000), always the same bytes."""
    train, held_out = load_digits()
    calibration, evaluation = folder / "calibration.npz", folder / "evaluation.npz"
    np.savez(calibration, **make_set(train, CALIBRATION_COPIES, CALIBRATION_SEED))
    np.savez(evaluation, **make_set(held_out, EVALUATION_COPIES, EVALUATION_SEED))
    return calibration, evaluation
