"""Structured pruning as a pass."""

from compression.exceptions import ModelUnsupportedError
from compression.passes.context import PassContext, PassResult


def prune_structured(context: PassContext) -> PassResult:
    raise ModelUnsupportedError("prune.structured is not available yet.")
