"""What a guest has to answer, computed with numpy and the bare runtime: the reference."""

from typing import Any

import numpy as np

from edge_agent.reading.scores import activate
from edge_agent.sandbox.guest_instance import GuestModel

Array = np.ndarray[Any, Any]


def prepare_image(image: Array, model: GuestModel) -> Array:
    """float32 `[1, channels, height, width]` of uint8 `[height, width, channels]`.

    Bilinear with pixel centres on pixel centres, then (value / 255 - mean) / deviation.
    """

    def places(model_size: int, image_size: int) -> tuple[Array, Array, Array]:
        at = np.maximum((np.arange(model_size) + 0.5) * image_size / model_size - 0.5, 0)
        low = np.minimum(at.astype(int), image_size - 1)
        return low, np.minimum(low + 1, image_size - 1), (at - low).astype(np.float32)

    top, bottom, down = places(model.height, image.shape[0])
    left, right, across = places(model.width, image.shape[1])
    pixels, across = image.astype(np.float32), across[None, :, None]
    above = pixels[top][:, left] * (1 - across) + pixels[top][:, right] * across
    below = pixels[bottom][:, left] * (1 - across) + pixels[bottom][:, right] * across
    value = above + (below - above) * down[:, None, None]
    mean = np.array(model.mean or (0.0,), dtype=np.float32)
    deviation = np.array(model.deviation or (1.0,), dtype=np.float32)
    tensor = (value / 255 - mean) / deviation
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None], dtype=np.float32)


def classify_outside(
    session: Any, image: Array, model: GuestModel, *, top_k: int
) -> list[tuple[int, float]]:
    (name,) = [node.name for node in session.get_inputs()]
    scores = session.run(None, {name: prepare_image(image, model)})[0][0]
    chances = activate(scores, model.activation)
    order = np.argsort(-chances)[:top_k]
    return [(int(index), float(chances[index])) for index in order]
