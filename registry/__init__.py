"""What a model is, exactly which bytes it consists of, and who decided what."""

import os

# ONNX Runtime's wheels report each process to their maker, from a database of their own below the
# home folder, since 1.29; what a device or a server runs is its owner's business. An operator who
# sets the variable is not overruled.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
