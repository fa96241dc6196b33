"""Whether PyTorch is there, found out without importing it. Pure."""

import importlib.metadata
import importlib.util

from compression.exceptions import TrainingUnavailableError

INSTALL_COMMAND = "pip install -r requirements-distill.txt"
# PyTorch alone maps 0.9 GB of address space before the first step.
MIN_TRAINING_MEMORY_BYTES = 2 * 1024**3


def is_torch_installed() -> bool:
    """Whether `import torch` would find a package."""
    return importlib.util.find_spec("torch") is not None


def check_torch(passes: list[str]) -> None:
    """Refuses passes that train where PyTorch is missing.

    Raises:
        TrainingUnavailableError: with how to install it.
    """
    if passes and not is_torch_installed():
        raise TrainingUnavailableError(
            f"{', '.join(passes)}: training needs PyTorch, which is not installed here. "
            f"Install it with `{INSTALL_COMMAND}`; prune.structured needs no training."
        )


def torch_version() -> str | None:
    """The installed version, or None."""
    return importlib.metadata.version("torch") if is_torch_installed() else None
