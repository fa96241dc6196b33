"""The processor of a release: a guest module that turns raw images into the model's answer."""

import hashlib
from importlib import resources
from typing import Any

from edge_agent.exceptions import GuestRefusedError
from edge_agent.sandbox import ACTIVATIONS, GuestModel

PACKAGED_GUEST = "classify.wasm"


def read_packaged_guest() -> bytes:
    """The classifier that comes with this package.

    Raises:
        GuestRefusedError: its bytes are not the recorded ones.
    """
    folder = resources.files("edge_agent") / "guest"
    module = (folder / PACKAGED_GUEST).read_bytes()
    digest = hashlib.sha256(module).hexdigest()
    if f"{digest}  {PACKAGED_GUEST}" not in (folder / "SHA256SUMS").read_text().splitlines():
        raise GuestRefusedError(f"{PACKAGED_GUEST} has the unrecorded digest {digest}")
    return module


def describe_model(session: Any) -> GuestModel:
    """What a guest is told of the model of a `ModelSession`.

    Channels, height and width come from the input `[batch, channels, height, width]`; mean and
    deviation from the manifest's `preprocessing.mean` and `.std`, one number or one per channel.

    Raises:
        GuestRefusedError: the model is no classifier of images of a fixed size.
    """
    shape = session.session.get_inputs()[0].shape
    scores = session.session.get_outputs()[session.reader.index].shape
    sizes = [*shape[1:], *scores[-1:]]
    if len(session.input_names) != 1 or len(shape) != 4 or len(sizes) != 4:
        raise GuestRefusedError(f"a guest needs one input of 4 dimensions, got {shape}")
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise GuestRefusedError(f"a guest needs fixed sizes, got {shape} and {scores}")
    if session.reader.activation not in ACTIVATIONS:
        raise GuestRefusedError(f"a guest knows no activation {session.reader.activation!r}")
    channels, height, width, classes = sizes
    preprocessing = session.manifest.document.get("preprocessing") or {}
    return GuestModel(
        channels=channels,
        height=height,
        width=width,
        classes=classes,
        activation=session.reader.activation,
        mean=_per_channel(preprocessing.get("mean"), channels, "mean"),
        deviation=_per_channel(preprocessing.get("std"), channels, "std"),
    )


def _per_channel(given: Any, channels: int, name: str) -> tuple[float, ...]:
    if given is None:
        return ()
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise GuestRefusedError(f"preprocessing.{name}: expected numbers, got {given}")
    if len(values) not in (1, channels):
        raise GuestRefusedError(
            f"preprocessing.{name}: expected 1 or {channels} numbers, got {len(values)}"
        )
    return tuple(float(v) for v in values) * (channels if len(values) == 1 else 1)
