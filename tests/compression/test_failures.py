"""How the failure of a pass is put into words."""

import errno
import os

import pytest

from compression.engine.failures import describe_failure

LIMITS = {"memory_bytes": 1024**3, "wall_seconds": 60, "threads": 2}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (RuntimeError("Failed to allocate memory for requested buffer"), "out_of_memory"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "file_too_large"),
        (ValueError("no such node"), "pass_failed"),
    ],
)
def test_a_failure_names_the_limit_it_met(error, code):
    found, message = describe_failure(error, LIMITS)
    assert found == code
    assert ("limits.memory_bytes" in message) == (code != "pass_failed")
