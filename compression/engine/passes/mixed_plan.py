"""The search itself: which nodes stay out of INT8, as few and as small as possible. Pure."""

from collections.abc import Callable

IsGood = Callable[[list[str]], bool]
GROUP = 4
"""Nodes that are admitted again together; one by one only where the group does harm."""


def rank_nodes(divergence: dict[str, float], size: dict[str, int]) -> list[str]:
    """Nodes by the divergence that quantizing each alone causes, per byte it would save."""
    return sorted(divergence, key=lambda name: (-divergence[name] / max(size[name], 1), name))


def find_excluded(ranked: list[str], is_good: IsGood) -> list[str] | None:
    """A small set of nodes to keep out of INT8, or None when not even all of them suffice.

    Doubles, then bisects the length of the prefix of `ranked` that makes the model good, then
    admits again the nodes, least harmful first, that turn out not to be needed: four at once where
    none of them is, else each by itself.

    Args:
        ranked: most harmful first.
        is_good: whether the model is good with these nodes kept out; may be expensive.
    """
    if is_good([]):
        return []
    low, high = 0, 1
    while high < len(ranked) and not is_good(ranked[:high]):
        low, high = high, min(len(ranked), high * 2)
    if high >= len(ranked) and not is_good(ranked):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if is_good(ranked[:middle]):
            high = middle
        else:
            low = middle
    excluded = list(ranked[:high])
    for start in range(0, high, GROUP):
        group = ranked[max(high - start - GROUP, 0) : high - start][::-1]
        together = [item for item in excluded if item not in group]
        if len(group) > 1 and is_good(together):
            excluded = together
            continue
        for name in group:
            fewer = [item for item in excluded if item != name]
            if is_good(fewer):
                excluded = fewer
    return excluded
