"""Passes whose names are reserved: they train, which this release does not do."""

from compression.exceptions import TrainingUnavailableError
from compression.passes.context import PassContext, PassResult

# Sending people to install PyTorch alone would cost them gigabytes and change nothing.
TRAINING_UNAVAILABLE = (
    "trains with PyTorch, and this release has no training passes yet; installing PyTorch "
    "(pip install torch) does not enable them. prune.structured needs no training."
)


def refuse_training(context: PassContext) -> PassResult:
    """Says why the pass cannot run.

    Raises:
        TrainingUnavailableError: always.
    """
    raise TrainingUnavailableError(f"This pass {TRAINING_UNAVAILABLE}")
