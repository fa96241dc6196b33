"""The engine that is loaded, and only when something is to be trained."""

import functools
import importlib

from compression.engine.training.engines.arrays import Engine
from compression.engine.training.requirement import find_engine
from compression.exceptions import TrainingUnavailableError

_CLASSES = {"jax": "JaxEngine", "torch": "TorchEngine"}


def load_engine() -> Engine:
    """The engine of `requirement.find_engine`.

    Raises:
        TrainingUnavailableError: neither is installed.
    """
    name = find_engine()
    if name is None:
        raise TrainingUnavailableError("Training needs JAX or PyTorch; neither is installed here.")
    return _load(name)


@functools.cache
def _load(name: str) -> Engine:
    module = importlib.import_module(f"compression.engine.training.engines.{name}_engine")
    engine: Engine = getattr(module, _CLASSES[name])()
    return engine
