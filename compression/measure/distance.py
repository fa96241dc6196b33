"""How far answers may be from their source's, whatever a recipe asks for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

MAX_ERROR_OF_CLASSES = 1.0
MAX_ERROR_OF_NUMBERS = 0.5
MIN_SHARE_OF_PARTS = 0.75
MIN_VARIANCE_EXPLAINED = 0.0
_TASKS_OF_PARTS = ("detection", "segmentation", "embedding", "sequence")
_TASKS_OF_VALUES = ("regression", "anomaly")


@dataclass(frozen=True)
class Excess:
    """A limit that answers break: `relative_error` or `task_agreement`."""

    gate: str
    limit: float
    measured: float
    unit: str
    is_minimum: bool


def find_excess(
    task: str, relative_error: float | None, agreement: float, figures: Mapping[str, float]
) -> Excess | None:
    """The first limit of the task that is broken; None where none is.

    The scores of classes may move by as much as they are large, since agreement and accuracy judge
    what becomes of them. Other answers are what people use: beyond half of their size they are
    others. Of ten models of all tasks (`tests/factories/task_models.py`) INT8 and FP16 stayed below
    0.05, and what had lost a quarter of its channels below 0.46; a spectrum of speech that was
    plainly wrong had 0.82, and shuffled weights of one layer brought most beyond 1.

    Boxes, pixels, vectors and letters can be wrong in spite of that: shuffled weights of the last
    layer left logarithms of letters at 0.21 of their size with 85 of 100 letters wrong. So three
    quarters have to agree: the same ten kept 0.97 at least, those with fewer channels 0.84, and
    those with shuffled weights 0.22 at most.

    Values far from zero hide their error behind their size: a regression with shuffled weights was
    off by 0.33. What does worse than always answering the source's mean has lost what the model
    tells.

    Args:
        relative_error: None where the answers have no distance.
        figures: those of `agreement`.
    """
    limit = MAX_ERROR_OF_CLASSES if task == "classification" else MAX_ERROR_OF_NUMBERS
    if relative_error is not None and relative_error > limit:
        unit = "relative error of the answers"
        return Excess("relative_error", limit, relative_error, unit, is_minimum=False)
    if task in _TASKS_OF_PARTS and agreement < MIN_SHARE_OF_PARTS:
        unit = f"agreement of the {task} with the source's"
        return Excess("task_agreement", MIN_SHARE_OF_PARTS, agreement, unit, is_minimum=True)
    explained = figures.get("variance_explained")
    if task in _TASKS_OF_VALUES and explained is not None and explained < MIN_VARIANCE_EXPLAINED:
        unit = "of the variance of the source's values explained"
        return Excess("task_agreement", MIN_VARIANCE_EXPLAINED, explained, unit, is_minimum=True)
    return None
