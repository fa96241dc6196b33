"""The engine that is loaded, and only when something is to be trained."""

import functools

from compression.engine.training.engines.arrays import Engine
from compression.engine.training.requirement import find_engine
from compression.exceptions import TrainingUnavailableError
from compression.recipe.declaration import load_function

_CLASSES = {
    "jax": "compression.engine.training.engines.jax_engine:JaxEngine",
    "torch": "compression.engine.training.engines.torch_engine:TorchEngine",
}


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
    engine: Engine = load_function(_CLASSES[name])()
    return engine
