"""One pass on one file, as the chain runs it but without its guard."""

from pathlib import Path
from typing import Any

import onnx

from compression.engine.passes.context import PassContext, PassResult, restrict_context
from compression.engine.passes.prepare import prepare_file
from compression.recipe.passes import PASSES


def run_pass(
    name: str,
    source: onnx.ModelProto | Path,
    folder: Path,
    *,
    is_prepared: bool = True,
    parameters: dict[str, Any] | None = None,
    **context: Any,
) -> tuple[PassResult, Path]:
    """What the pass says, and the file that it wrote in `folder`.

    Args:
        source: a model, which `prepare` sees first unless `is_prepared` is False; a file is taken
            as it is.
        parameters: besides the defaults.
        context: what else of a `PassContext` it is given; it sees what it declares to read.
    """
    folder.mkdir(exist_ok=True)
    if isinstance(source, Path):
        path = original = source
    else:
        path = original = folder / "original.onnx"
        onnx.save(source, str(original))
        if is_prepared:
            path = folder / "prepared.onnx"
            prepare_file(original, path)
    declared = PASSES[name]
    whole = PassContext(
        source=path,
        destination=folder / "out.onnx",
        original=context.pop("original", original),
        scratch=folder,
        parameters={**declared.defaults, **(parameters or {})},
        **context,
    )
    return declared.load()(restrict_context(whole, declared.reads)), whole.destination
