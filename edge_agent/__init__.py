"""Aviary's edge agent: keeps the best verified model running on a device."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels report each process to their maker, from a database of their own below the
# home folder, since 1.29; what a device or a server runs is its owner's business. An operator who
# sets the variable is not overruled.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
