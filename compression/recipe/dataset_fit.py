"""Whether a data set feeds a model, decided from what the registry wrote down of both. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.validation.feeds import ArrayFacts, InputSpec, match_arrays
from registry.validation.rules import RuleError


def find_misfit(arrays: Mapping[str, Any], specs: Sequence[InputSpec]) -> str | None:
    """What is in the way, with expected and found; None when the set fits.

    Args:
        arrays: name to `{"dtype", "shape"}`, as a data set describes itself.
        specs: the inputs of the model.
    """
    described = {
        name: ArrayFacts(item["dtype"], tuple(item["shape"])) for name, item in arrays.items()
    }
    try:
        match_arrays(specs, described)
    except RuleError as error:
        return str(error)
    return None
