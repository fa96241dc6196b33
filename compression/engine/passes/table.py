"""Which function runs which pass. Imported late: only the child process needs the tooling."""

from collections.abc import Callable
from functools import partial

from compression.engine.passes.context import PassContext, PassResult
from compression.engine.passes.half import convert_fp16
from compression.engine.passes.mixed import search_mixed
from compression.engine.passes.prepare import prepare
from compression.engine.passes.prune import prune_structured
from compression.engine.passes.quantize import quantize_dynamically, quantize_statically
from compression.engine.passes.search_best import search_best
from compression.engine.passes.train import distill, finetune
from compression.engine.passes.weights import prune_unstructured, quantize_weights

RUNNERS: dict[str, Callable[[PassContext], PassResult]] = {
    "prepare": prepare,
    "prune.structured": prune_structured,
    "prune.unstructured": prune_unstructured,
    "finetune.kd": finetune,
    "distill.student": distill,
    "quantize.dynamic": quantize_dynamically,
    "quantize.static": quantize_statically,
    "quantize.weights": quantize_weights,
    "convert.fp16": convert_fp16,
    "mixed.search": search_mixed,
}
# Last, for it tries the others.
RUNNERS["search.best"] = partial(search_best, runners=dict(RUNNERS))
