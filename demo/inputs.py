"""What the demonstration's cameras see: held-out digits, upright at first and disturbed later."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parent / "data"


def held_out_digits(seed: int) -> NDArray[np.float32]:
    """The held-out images [n, 1, 8, 8] in an order of this device's own."""
    with np.load(DATA / "eval.npz", allow_pickle=False) as archive:
        images: NDArray[np.float32] = archive["x"]
    return images[np.random.default_rng(seed).permutation(len(images))]


def disturb(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The same images as a camera knocked on its side under a flickering lamp would give them."""
    turned = np.rot90(images, axes=(2, 3))
    noise = np.random.default_rng(seed).normal(0.0, 0.25, turned.shape)
    return np.clip(turned + noise, 0.0, 1.0).astype(np.float32)


def write_inputs(path: Path, images: NDArray[np.float32]) -> None:
    """Replace the file in one step, so that an agent never reads half of it."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as stream:
        np.savez(stream, x=images)
    os.replace(partial, path)
