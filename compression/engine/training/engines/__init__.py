"""The array libraries that training runs on, behind one interface.

An engine knows elementwise functions, convolutions, pooling, gradients and compiling, all with the
same meaning. Operators, losses and the optimizer are written once against it. JAX is the engine
that is installed with the project's extra; PyTorch is used where it alone is installed.
"""

from compression.engine.training.engines.arrays import Array, Arrays, Engine
from compression.engine.training.engines.choice import load_engine

__all__ = ["Array", "Arrays", "Engine", "load_engine"]
