"""Aviary's edge agent: keeps the best verified model running on a device.

A program that embeds it needs one class:

    from edge_agent import Runtime

    with Runtime.open("agent.toml") as runtime:
        answer = runtime.infer(image)
        print(answer.label, answer.result.confidence, answer.manifest.version)
"""

import os
from typing import TYPE_CHECKING, Any

from edge_agent.version import RELEASED_ON, __version__

if TYPE_CHECKING:
    from edge_agent.runtime import Runtime

__all__ = ["RELEASED_ON", "Runtime", "__version__"]

# ONNX Runtime's wheels report each process to their maker, from a database of their own below the
# home folder, since 1.29; what a device or a server runs is its owner's business. An operator who
# sets the variable is not overruled.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    # Loaded when asked for: a command that runs no model must not pay for one.
    if name == "Runtime":
        from edge_agent.runtime import Runtime

        return Runtime
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
