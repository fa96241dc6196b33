"""Smaller variants of a version: recipes, passes, jobs and what they cost in accuracy.

From Python 3.14 on the standard library has a package of this name and `gzip` imports
`compression._common`. With the repository root first on `sys.path` this package would hide it,
so the path is extended: submodules that are not here are found in the standard library.
"""

import os
from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)

# As in registry/__init__.py: the children that measure a model import this package alone.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
