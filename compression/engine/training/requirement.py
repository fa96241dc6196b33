"""Whether a library to train with is there, found out without importing it. Pure."""

import importlib.metadata
import importlib.util

from compression.exceptions import TrainingUnavailableError

INSTALL_COMMAND = "pip install -r requirements-distill.txt"
# Held by the library, its compiler and a network of 100 nodes: 0.7 GB.
MIN_TRAINING_MEMORY_BYTES = 1024**3
#: Packages that training runs on, with what they consist of; the first installed is taken.
ENGINES = {"jax": ("jax", "jaxlib"), "torch": ("torch",)}


def find_engine() -> str | None:
    """The package that training runs on, or None."""
    return next((name for name in ENGINES if _is_installed(name)), None)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        # A finder that hides the package, or a module put in its place without a spec.
        return False


def check_engine(passes: list[str]) -> None:
    """Refuses passes that train where there is nothing to train with.

    Raises:
        TrainingUnavailableError: with how to install it.
    """
    if passes and find_engine() is None:
        raise TrainingUnavailableError(
            f"{', '.join(passes)}: training needs JAX or PyTorch; neither is installed here. "
            f"Install JAX with `{INSTALL_COMMAND}`; prune.structured needs no training."
        )


def engine_versions() -> dict[str, str]:
    """The versions of what training runs on, by package; its bytes depend on them."""
    name = find_engine()
    if name is None:
        return {"training": "missing"}
    return {package: importlib.metadata.version(package) for package in ENGINES[name]}
