"""Which function runs which pass. Imported late: only the child process needs the tooling."""

from collections.abc import Callable
from functools import partial

from compression.passes.context import PassContext, PassResult
from compression.passes.half import convert_fp16
from compression.passes.mixed import search_mixed
from compression.passes.prepare import prepare
from compression.passes.prune import prune_structured
from compression.passes.quantize import quantize_dynamically, quantize_statically
from compression.passes.search_best import search_best
from compression.passes.train import distill, finetune
from compression.passes.weights import prune_unstructured, quantize_weights

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
