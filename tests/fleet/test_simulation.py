"""Simulated devices: the same for the same seed, in the shares that were asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from fleet.rules.transitions import REPORTABLE
from fleet.simulation.profiles import (
    PROFILES,
    MixError,
    chance_of,
    installation_states,
    parse_mix,
    profile_of,
)


def test_a_mix_is_read_and_each_profile_gets_its_share() -> None:
    mix = parse_mix("healthy=90, failing=8,dying=2,slow=0")
    found = Counter(profile_of(f"d-{number}", mix, "7") for number in range(10_000))
    assert found["slow"] == 0
    for name, weight in mix.items():
        assert abs(found[name] - 100 * weight) < 150
    assert [profile_of("d-1", mix, seed) for seed in "aaa"] == [profile_of("d-1", mix, "a")] * 3


@pytest.mark.parametrize(
    "text", ["", "healthy", "healthy=", "healthy=-1", "nobody=1", "healthy=0", "slow=1,slow=2"]
)
def test_what_is_no_mix_is_refused(text: str) -> None:
    with pytest.raises(MixError, match="expected"):
        parse_mix(text)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_reports_states_that_the_protocol_has(name: str) -> None:
    profile, chance = PROFILES[name], chance_of("d-1", name)
    ends = Counter()
    for _ in range(300):
        states = [state for state, _ in installation_states(profile, chance)]
        assert set(states) <= REPORTABLE
        ends[states[-1]] += 1
    assert abs(ends["failed"] / 300 - profile.failure_rate) < 0.1
