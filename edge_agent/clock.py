"""What time it is, on a device whose clock may be wrong, jump, or not exist.

The time since the boot is trusted for durations, the boot's id with a rising number for order, and
the wall clock is a hint: a board without a battery wakes up in 1970 until the network tells it.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")
JUMP_S = 2.0
"""Below this, a difference between two readings is drift and slewing, and no jump."""


@dataclass(frozen=True)
class Clock:
    boot_id: str
    """Another one after every boot of the machine."""
    since_boot: Callable[[], float] = field(compare=False)
    """Seconds since the boot, time asleep included; never goes back within a boot."""
    wall: Callable[[], float] = field(compare=False)
    """Unix seconds, as far as this machine knows."""

    def correct(self, stamp: float, since_boot: float) -> float:
        """`stamp`, a wall time of this boot read at `since_boot`, as today's wall clock would
        have read it then: what the clock was set by meanwhile is added."""
        corrected = self.wall() - (self.since_boot() - since_boot)
        return corrected if abs(corrected - stamp) > JUMP_S else stamp


def read_system_clock() -> Clock:
    """This machine's clock."""
    try:
        boot_id = BOOT_ID_PATH.read_text().strip()
    except OSError:
        # Where nobody tells boots apart, every start of the agent counts as one.
        boot_id = str(uuid.uuid4())
    return Clock(boot_id, _seconds_since_boot, time.time)


def _seconds_since_boot() -> float:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
