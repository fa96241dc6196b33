"""One pass, run so that it leaves a sound model or a reason."""

from collections.abc import Callable
from pathlib import Path

from compression.engine.passes.context import PassContext, PassResult
from compression.exceptions import CompressionError, ModelUnsupportedError
from compression.measure.sessions import open_session


def run_guarded(
    name: str, runner: Callable[[PassContext], PassResult], context: PassContext
) -> PassResult:
    """The pass's result; its file was loaded and has the inputs and outputs of the source.

    Raises:
        ModelUnsupportedError: the tools gave up on this graph, or left something broken.
    """
    try:
        result = runner(context)
    except (CompressionError, MemoryError):
        raise
    # The tools raise whatever their authors had at hand; every class of ONNX Runtime's binding
    # derives from Exception alone.
    except Exception as error:
        raise ModelUnsupportedError(
            f"{name} does not work on this graph: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    _check_result(name, context.source, context.destination)
    return result


def _check_result(name: str, source: Path, destination: Path) -> None:
    try:
        found = _signature(destination)
    except Exception as error:
        raise ModelUnsupportedError(
            f"{name} wrote a model that ONNX Runtime does not load: {str(error)[:500]}"
        ) from error
    expected = _signature(source)
    if found != expected:
        raise ModelUnsupportedError(
            f"{name} changed inputs or outputs: expected {expected}, found {found}."
        )


def _signature(path: Path) -> list[tuple[str, str, int]]:
    session = open_session(path, is_optimized=False)
    items = [*session.get_inputs(), *session.get_outputs()]
    return [(item.name, item.type, len(item.shape)) for item in items]
