"""One pass, run so that it leaves a sound model or a reason."""

from collections.abc import Sequence
from dataclasses import replace

from compression.engine.graph.header import keep_header
from compression.engine.passes.context import PassContext, PassResult, restrict_context
from compression.exceptions import CompressionError, ModelUnsupportedError
from compression.measure.samples import Samples
from compression.measure.smoke import Call, Signature, list_calls, smoke_run
from compression.recipe.declaration import Pass


def run_guarded(
    declared: Pass, context: PassContext, signature: Signature, samples: Samples | None
) -> PassResult:
    """The pass's result; its file loads, runs and has the inputs and outputs of the source.

    The pass sees what it declares to read and nothing else.

    Args:
        signature: of the source.
        samples: what the file is run on; None: it is loaded only.

    Raises:
        ModelUnsupportedError: the tools gave up on this graph, or left something broken.
    """
    name = declared.name
    probe = () if samples is None else tuple(list_calls(samples))
    try:
        result: PassResult = declared.load()(
            replace(restrict_context(context, declared.reads), probe=probe)
        )
    except (CompressionError, MemoryError):
        raise
    # The tools raise whatever their authors had at hand; every class of ONNX Runtime's binding
    # derives from Exception alone.
    except Exception as error:
        raise ModelUnsupportedError(
            f"{name} does not work on this graph: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    keep_header(context.original, context.destination)
    _check_result(name, context, signature, probe)
    return result


def _check_result(
    name: str, context: PassContext, expected: Signature, probe: Sequence[Call]
) -> None:
    smoke = smoke_run(context.destination, probe, threads=context.threads)
    if smoke.signature is None:
        raise ModelUnsupportedError(
            f"{name} wrote a model that ONNX Runtime does not load: {smoke.failure}"
        )
    if smoke.signature != expected:
        raise ModelUnsupportedError(
            f"{name} changed inputs or outputs: expected {expected}, found {smoke.signature}."
        )
    # A graph that itself runs with some batches alone is no fault of the pass.
    if smoke.failure and not smoke_run(context.original, probe, threads=context.threads).failure:
        raise ModelUnsupportedError(
            f"{name} wrote a model that ONNX Runtime loads but does not run; {smoke.failure} "
            "Another format or `exclude` with the node that it names may help."
        )
