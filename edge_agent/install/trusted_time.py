"""What time it is at least, for rules that expire: no I/O and no clock.

A device has four witnesses, and each may be wrong by years:

- `signed`, the latest `issued_at` it has acted on. Nobody without the key can forge it, but a
  signer whose clock ran ahead, or whose key was stolen, can have stated any time.
- `server`, what the server's clock said last in this process, over TLS. Its next answer corrects
  it.
- `own`, the device's clock: 1970 on a board without a battery, anything after a bad set-up.
- `released`, the day of the agent's own version: always true, and always old.

The signed time alone may not decide, or one statement from 2099 would make every later assignment
look expired for ever (a fast-forward attack, as TUF calls it, on the clock). So it counts only up
to a day past the best other witness: the server where TLS vouches for it, else the later of `own`
and `released`. So a wrong `own` can weaken the expiry, where no TLS tells the time, but never
stop a device; and what the signer stated wrongly ends when any witness is put right.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_AHEAD = timedelta(days=1)
"""How far a signed time is believed past the witness it is compared with. Below the least life an
assignment has left when it is fetched, so that a bounded signed time never outlives a fresh one."""


@dataclass(frozen=True)
class Witnesses:
    """Times in UTC; None where there is none."""

    released: datetime
    own: datetime
    signed: datetime | None = None
    server: datetime | None = None

    @property
    def latest_believable(self) -> datetime:
        """Past this, a signed time is taken for a mistake of the signer."""
        return (self.server or max(self.own, self.released)) + MAX_AHEAD


def estimate_time(witnesses: Witnesses) -> datetime:
    """The latest time that is believed to have come."""
    known = [witnesses.released]
    if witnesses.signed is not None:
        known.append(min(witnesses.signed, witnesses.latest_believable))
    if witnesses.server is not None:
        known.append(witnesses.server)
    return max(known)


def choose_signed_time(witnesses: Witnesses, issued_at: datetime) -> datetime:
    """The signed time to keep after acting on an assignment of `issued_at`.

    The later one; but one that is no longer believable gives way to one that is.
    """
    known, limit = witnesses.signed, witnesses.latest_believable
    if known is None or issued_at <= limit < known:
        return issued_at
    return max(known, issued_at)
