"""Nodes that a quantizer, or ONNX Runtime after it, gives up on: left out, not refused."""

from collections.abc import Callable, Sequence

from compression.engine.passes.context import PassContext
from compression.exceptions import CompressionError, ModelUnsupportedError
from compression.measure.smoke import smoke_run

#: Quantizes without the first nodes, or of all nodes only the second ones.
Quantize = Callable[[Sequence[str], Sequence[str] | None], None]
MAX_TRIALS = 60


def spare_culprits(
    name: str,
    quantize: Quantize,
    context: PassContext,
    candidates: Sequence[str],
    excluded: Sequence[str],
) -> dict[str, str]:
    """Quantizes, and leaves out the nodes that keep the result from being written or from running.

    Args:
        name: of the pass.
        quantize: writes `context.destination`.
        candidates: nodes that may be at fault.
        excluded: nodes that are left out already.

    Returns:
        The nodes that are left out besides, with the reason.

    Raises:
        ModelUnsupportedError: no single nodes are at fault; with what went wrong.
    """
    problem = find_problem(quantize, context, excluded)
    if not problem:
        return {}
    found = _find_culprits(quantize, context, [n for n in candidates if n not in set(excluded)])
    if found and not find_problem(quantize, context, [*excluded, *found]):
        return {node: f"the quantizer gives up on it: {why}" for node, why in found.items()}
    named = f" Nodes at fault by themselves: {', '.join(found)}." if found else ""
    raise ModelUnsupportedError(
        f"{name} does not work on this graph: {problem}.{named} `exclude` with the node named, "
        "or another format, may help."
    )


def find_problem(
    quantize: Quantize,
    context: PassContext,
    excluded: Sequence[str],
    only: Sequence[str] | None = None,
) -> str:
    """Why the quantizer gives up, or why its file does not run; empty when all is well."""
    try:
        quantize(excluded, only)
    except (CompressionError, MemoryError):
        raise
    # The quantizer raises whatever its authors had at hand; this trial ends, the next one begins.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {str(error)[:300]}"
    return smoke_run(context.destination, context.probe, threads=context.threads).failure


def _find_culprits(
    quantize: Quantize, context: PassContext, candidates: Sequence[str]
) -> dict[str, str]:
    """Nodes that fail when they alone are quantized, found by halving."""
    found: dict[str, str] = {}
    groups = [list(candidates)] if candidates else []
    for _ in range(MAX_TRIALS):
        if not groups:
            return found
        group = groups.pop()
        problem = find_problem(quantize, context, [], group)
        if problem and len(group) == 1:
            found[group[0]] = problem
        elif problem:
            half = len(group) // 2
            groups += [group[:half], group[half:]]
    return {}
