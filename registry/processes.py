"""Child processes of the server that end with the process that started them."""

import contextlib
import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere its own limits have to do.

    The kernel watches the thread that started this process, which has to stay until the end.

    Args:
        parent: process id of the parent; when it is gone already, this process ends at once. None
            where it is not known.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
