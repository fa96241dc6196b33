"""One pass, run so that it leaves a sound model or a reason."""

from pathlib import Path
from typing import Any

from compression.engine.passes.context import PassContext, PassResult, restrict_context
from compression.exceptions import CompressionError, ModelUnsupportedError
from compression.measure.sessions import open_session
from compression.recipe.declaration import Pass

Signature = list[tuple[str, str, int]]


def run_guarded(declared: Pass, context: PassContext, signature: Signature) -> PassResult:
    """The pass's result; its file was loaded and has the inputs and outputs of the source.

    The pass sees what it declares to read and nothing else.

    Args:
        signature: of the source.

    Raises:
        ModelUnsupportedError: the tools gave up on this graph, or left something broken.
    """
    name = declared.name
    try:
        result: PassResult = declared.load()(restrict_context(context, declared.reads))
    except (CompressionError, MemoryError):
        raise
    # The tools raise whatever their authors had at hand; every class of ONNX Runtime's binding
    # derives from Exception alone.
    except Exception as error:
        raise ModelUnsupportedError(
            f"{name} does not work on this graph: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    _check_result(name, context.destination, signature)
    return result


def signature_of(session: Any) -> Signature:
    """Name, type and number of axes of each input, then of each output."""
    items = [*session.get_inputs(), *session.get_outputs()]
    return [(item.name, item.type, len(item.shape)) for item in items]


def _check_result(name: str, destination: Path, expected: Signature) -> None:
    try:
        found = signature_of(open_session(destination, is_optimized=False))
    except Exception as error:
        raise ModelUnsupportedError(
            f"{name} wrote a model that ONNX Runtime does not load: {str(error)[:500]}"
        ) from error
    if found != expected:
        raise ModelUnsupportedError(
            f"{name} changed inputs or outputs: expected {expected}, found {found}."
        )
