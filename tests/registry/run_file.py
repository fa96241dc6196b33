"""A limited process that runs a file of Python: `python -m tests.registry.run_file FILE`."""

import runpy
import sys

if __name__ == "__main__":
    runpy.run_path(sys.argv[1], run_name="__main__")
