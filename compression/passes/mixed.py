"""Mixed precision as a pass."""

from compression.exceptions import ModelUnsupportedError
from compression.passes.context import PassContext, PassResult


def search_mixed(context: PassContext) -> PassResult:
    raise ModelUnsupportedError("mixed.search is not available yet.")
