"""Which classes are dropped, and how much of each group."""

from collections.abc import Callable, Collection

from compression.engine.pruning.importance import Importance
from compression.recipe.alignment import FLOAT_ALIGNMENT

STEPS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)


def choose_classes(
    importances: list[Importance],
    ratios: list[float],
    *,
    align: int,
    min_keep: int,
    filtered: Collection[int] = (),
) -> set[int]:
    """The least important classes of each group.

    Args:
        importances: per group, the importance of each class.
        ratios: per group, the share to drop, in [0, 1).
        align: kept counts are rounded up to a multiple of this: kernels work on whole vectors, and
            unaligned widths made a model slower. A group that this would leave whole is narrowed in
            multiples of 8 instead: it never needs more vectors than before, and fewer bytes.
        min_keep: no group gets narrower than this.
        filtered: places of groups that a depthwise convolution filters. INT8 kernels compute the
            channels left over behind the last 16 one by one, so these are not narrowed by 8 where
            nothing is left over yet.
    """
    dropped: set[int] = set()
    for index, (importance, ratio) in enumerate(zip(importances, ratios, strict=True)):
        count = len(importance)
        keep = _round_width(count, ratio, align, min_keep)
        is_whole = index in filtered and count % align == 0
        if keep == count and align > FLOAT_ALIGNMENT and not is_whole:
            keep = _round_width(count, ratio, FLOAT_ALIGNMENT, min_keep)
        order = sorted(importance, key=lambda root: (importance[root], root))
        dropped.update(order[: count - keep])
    return dropped


def _round_width(count: int, ratio: float, align: int, min_keep: int) -> int:
    """How many of `count` channels are kept."""
    keep = max(min_keep, round(count * (1.0 - ratio)), 1)
    if count >= align:
        keep = -(-keep // align) * align
    return min(count, keep)


def allocate_ratios(
    groups: int,
    target_parameters: float,
    *,
    cost_of: Callable[[int, float], float],
    parameters_of: Callable[[list[float]], int],
    saving_of: Callable[[int, float], float],
) -> list[float]:
    """Ratios per group that reach a parameter count where it hurts least.

    Greedy: again and again the group whose next step costs least divergence for what it saves is
    narrowed, until the model is small enough or nothing is left to narrow.

    Args:
        groups: how many there are.
        target_parameters: stop at or below this count.
        cost_of: divergence of the model with one group alone narrowed by a ratio.
        parameters_of: parameters with all ratios applied.
        saving_of: parameters saved with one group alone narrowed by a ratio, or any other gain.
    """
    steps = [0] * groups
    while parameters_of([STEPS[step] for step in steps]) > target_parameters:
        best: tuple[float, int] | None = None
        for index in range(groups):
            step = steps[index]
            # A step that saves nothing (alignment swallows it) is passed over.
            while step + 1 < len(STEPS):
                saved = saving_of(index, STEPS[step + 1]) - saving_of(index, STEPS[steps[index]])
                if saved > 0:
                    break
                step += 1
            if step + 1 >= len(STEPS):
                continue
            cost = cost_of(index, STEPS[step + 1]) - cost_of(index, STEPS[steps[index]])
            rate = cost / saved
            if best is None or rate < best[0]:
                best = (rate, index)
                chosen = step + 1
        if best is None:
            break
        steps[best[1]] = chosen
    return [STEPS[step] for step in steps]
