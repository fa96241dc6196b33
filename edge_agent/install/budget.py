"""What a release may cost on the network, counted across restarts and power cuts.

A device in a crash loop begins anew each time, and on a metered link every beginning is paid for.
So what a release has taken is in the state file, written before the bytes come: in steps, so that
a download costs a few writes and a crash overcounts by one step at most. Past its budget a release
waits. The budget comes back little by little, and only with time that this device has seen pass
while it was on: a clock that jumps, or that a board without a battery resets, brings nothing back.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.exceptions import BudgetError
from edge_agent.releases.state import Spending
from edge_agent.releases.trust import Manifest

STEPS_PER_RELEASE = 8
STEP_BYTES = 64 << 10, 64 << 20
"""Least and most that is written down at a time."""
STEPS_OF_GRACE = 16
"""Crashes that cost a step and nothing else before a budget of small files is used up."""


@dataclass(frozen=True)
class Allowance:
    """What one release may take until it has to wait."""

    bytes: int
    attempts: int
    refill_s: float
    """Seconds in which all of it comes back."""
    step_bytes: int


def allow(manifest: Manifest, *, sizes: float, attempts: int, refill_s: float) -> Allowance:
    """The allowance of a release: `sizes` times its bytes, `attempts` for each of its files."""
    size_bytes = sum(file.size_bytes for file in manifest.files)
    least, most = STEP_BYTES
    step = min(max(size_bytes // STEPS_PER_RELEASE, least), most)
    total = int(size_bytes * sizes) + STEPS_OF_GRACE * step
    return Allowance(total, attempts * len(manifest.files), refill_s, step)


def refill(spending: Spending, allowance: Allowance, clock: Clock) -> Spending:
    """`spending` less what has come back since it was written, as of now.

    Of the time between two boots only that since the second one is known.
    """
    now = clock.since_boot()
    seen_s = now - spending.since_boot_s if spending.boot_id == clock.boot_id else now
    share = min(max(seen_s, 0.0) / allowance.refill_s, 1.0)
    return dataclasses.replace(
        spending,
        bytes_taken=max(0, spending.bytes_taken - math.floor(share * allowance.bytes)),
        # The rest of an attempt stays until a whole one has come back.
        attempts=max(0.0, spending.attempts - share * allowance.attempts),
        boot_id=clock.boot_id,
        since_boot_s=now,
    )


class Ledger:
    """Charges one release; `write` makes a spending durable, before anything is spent."""

    def __init__(
        self,
        spending: Spending,
        allowance: Allowance,
        clock: Clock,
        *,
        write: Callable[[Spending], None],
    ) -> None:
        self.allowance = allowance
        self._clock = clock
        self._write = write
        self._spending = spending
        self._reserved = 0
        """Bytes that are written down and have not come yet."""

    def begin_attempt(self) -> None:
        """Counts one transfer.

        Raises:
            BudgetError: the budget is used up.
            DiskFullError: it cannot be written down.
        """
        self._spending = refill(self._spending, self.allowance, self._clock)
        if self._spending.attempts + 1 > self.allowance.attempts:
            raise BudgetError(
                f"{self._spending.attempts:.0f} of {self.allowance.attempts} transfers of this "
                f"release are used up; {self._describe_refill()}"
            )
        self._spending.attempts += 1
        # A run's first attempt is written down with the first bytes it may take.
        self._reserve(0 if self._reserved else 1)

    def take(self, size_bytes: int) -> None:
        """Counts bytes that have come.

        Raises:
            BudgetError: the budget is used up.
            DiskFullError: it cannot be written down.
        """
        if size_bytes > self._reserved:
            self._reserve(size_bytes - self._reserved)
        self._reserved -= size_bytes

    def settle(self) -> None:
        """Gives back what was reserved and did not come.

        Raises:
            DiskFullError: it cannot be written down; the release has paid for it.
        """
        if self._reserved:
            left = self._spending.bytes_taken - self._reserved
            self._spending = dataclasses.replace(self._spending, bytes_taken=left)
            self._reserved = 0
            self._write(self._spending)

    def _reserve(self, needed: int) -> None:
        if not needed:
            return
        spending = refill(self._spending, self.allowance, self._clock)
        if spending.bytes_taken + needed > self.allowance.bytes:
            raise BudgetError(
                f"{spending.bytes_taken} of {self.allowance.bytes} bytes for this release are used "
                f"up; {self._describe_refill()}"
            )
        step = min(
            max(needed, self.allowance.step_bytes), self.allowance.bytes - spending.bytes_taken
        )
        spending.bytes_taken += step
        self._write(spending)
        self._spending = spending
        self._reserved += step

    def _describe_refill(self) -> str:
        hours = self.allowance.refill_s / 3600
        return f"all of it comes back within {hours:.0f} hours, a little at a time"
