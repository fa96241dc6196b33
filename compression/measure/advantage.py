"""Whether a variant is better than its source in anything, and in what words. Pure."""

from collections.abc import Iterable
from typing import Any

# Two p50 nearer than this are one: interleaved medians of the same file differ by as much.
LATENCY_TIE = 0.05
# Less is a matter of names and headers.
MIN_SAVED_SHARE = 0.01


def is_better(sizes: Iterable[tuple[float, float]], p50_ms: tuple[float, float] | None) -> bool:
    """Whether one size is smaller, or it is faster.

    Args:
        sizes: of the variant and of its source, in bytes.
        p50_ms: of both, in one run; None where nobody measured it.
    """
    is_smaller = any(_is_less(*pair, MIN_SAVED_SHARE) for pair in sizes)
    return is_smaller or (p50_ms is not None and _is_less(*p50_ms, LATENCY_TIE))


def describe_advantage(figures: dict[str, Any]) -> dict[str, Any]:
    """`is_better`, and a sentence on size and speed beside the source."""
    source, variant = figures["source"], figures["variant"]
    before, after = source["latency"]["p50_ms"], variant["latency"]["p50_ms"]
    # What packs smaller is on its way sooner.
    sizes = [(variant[name], source[name]) for name in ("bytes", "compressed_bytes")]
    better = is_better(sizes, (after, before))
    size = _compare(source["bytes"], variant["bytes"], MIN_SAVED_SHARE, "smaller", "larger")
    speed = _compare(before, after, LATENCY_TIE, "faster", "slower")
    sentence = f"{size or 'As large as its source'}, {speed or 'as fast'}."
    if not better:
        sentence += " No better than its source, so it is kept for study and not offered."
    return {"is_better": better, "sentence": sentence}


def _is_less(value: float, reference: float, share: float) -> bool:
    return value < reference * (1.0 - share)


def _compare(before: float, after: float, share: float, less: str, more: str) -> str:
    """`3.40 × smaller`; empty where both are equal but for `share`."""
    if _is_less(after, before, share):
        return f"{before / max(after, 1e-9):.2f} × {less}"
    if _is_less(before, after, share):
        return f"{after / max(before, 1e-9):.2f} × {more}"
    return ""
