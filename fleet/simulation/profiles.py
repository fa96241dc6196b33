"""How a simulated device behaves; pure, and the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """What goes wrong on a device, and how often.

    Attributes:
        step_seconds: between two states of an installation, before jitter.
        failure_rate: share of installations that fail their self-test.
        death_rate: chance at each poll that the device is never heard of again.
        absence_rate: chance at each poll that it misses the next `ABSENT_POLLS`.
    """

    step_seconds: float = 0.5
    failure_rate: float = 0.0
    death_rate: float = 0.0
    absence_rate: float = 0.0


ABSENT_POLLS = 5
PROFILES: dict[str, Profile] = {
    "healthy": Profile(),
    "slow": Profile(step_seconds=30.0),
    "failing": Profile(failure_rate=1.0),
    "flaky": Profile(failure_rate=0.3),
    "dying": Profile(death_rate=0.2),
    "offline": Profile(absence_rate=0.3),
}


class MixError(ValueError):
    """A mix of profiles that cannot be read."""


def parse_mix(text: str) -> dict[str, int]:
    """Profile to its weight, from `healthy=90,failing=10`.

    Raises:
        MixError: an unknown profile, one that comes twice, or weights that are no whole numbers
            from 0, or all 0.
    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, sign, weight = (piece.strip() for piece in part.partition("="))
        if name not in PROFILES:
            raise MixError(f"expected profiles of {', '.join(PROFILES)}; got {name[:40]!r}")
        if name in mix or not sign or not (weight.isascii() and weight.isdigit()):
            raise MixError(f"expected {name}=<whole number> once; got {part[:60]!r}")
        mix[name] = int(weight)
    if not sum(mix.values()):
        raise MixError("expected a weight above 0")
    return mix


def profile_of(device_id: str, mix: Mapping[str, int], seed: str) -> str:
    """The device's profile: each gets its share of a large fleet."""
    digest = hashlib.sha256(f"{seed}:{device_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") % sum(mix.values())
    for name, weight in mix.items():
        if place < weight:
            return name
        place -= weight
    raise AssertionError("the weights add up")


def chance_of(device_id: str, seed: str) -> random.Random:
    """The device's own dice."""
    return random.Random(f"{seed}:{device_id}")


def installation_states(profile: Profile, chance: random.Random) -> list[tuple[str, str]]:
    """The states that the device reports in turn, each with its code."""
    begin = [("downloading", ""), ("verified", ""), ("trial", "")]
    if chance.random() < profile.failure_rate:
        return [*begin, ("failed", "self_test_failed")]
    return [*begin, ("committed", "")]
