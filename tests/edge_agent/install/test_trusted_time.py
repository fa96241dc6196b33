"""No signed time from the far future stops a device, and no expired assignment passes for it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from edge_agent import RELEASED_ON
from edge_agent.agent import Agent
from edge_agent.install.trusted_time import MAX_AHEAD, Witnesses, choose_signed_time, estimate_time
from edge_agent.releases.trust import EXPIRY_SLACK, parse_trust_keys
from tests.edge_agent import publisher
from tests.edge_agent.publisher import MODEL, Server, make_model, make_trust_rows

RELEASED = datetime.fromisoformat(RELEASED_ON).replace(tzinfo=UTC)
LIFETIME, RENEWAL = timedelta(days=7), timedelta(days=3.5)

#: Any moment since the release, and any that a clock or a signer may claim.
nows = st.datetimes(RELEASED.replace(tzinfo=None), datetime(2060, 1, 1), timezones=st.just(UTC))
claims = st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))
small = st.timedeltas(timedelta(), timedelta(hours=1))


def act_on(history: list[datetime], own: datetime, server: datetime | None) -> datetime | None:
    """What a device keeps after acting on assignments issued at these times."""
    signed = None
    for issued_at in history:
        signed = choose_signed_time(Witnesses(RELEASED, own, signed, server), issued_at)
    return signed


def is_expired(issued_at: datetime, believed: datetime) -> bool:
    return max(believed, issued_at) > issued_at + LIFETIME + EXPIRY_SLACK


@given(st.lists(claims, max_size=5), nows, small, st.timedeltas(timedelta(), RENEWAL))
def test_no_history_stops_a_device_whose_clock_is_right(
    history: list[datetime], now: datetime, error: timedelta, age: timedelta
) -> None:
    own = now + error
    believed = estimate_time(Witnesses(RELEASED, own, act_on(history, own, None)))
    assert not is_expired(now - age, believed)


@given(st.lists(claims, max_size=5), nows, st.timedeltas(timedelta(), timedelta(days=30_000)))
def test_no_history_stops_a_device_whose_clock_is_behind(
    history: list[datetime], now: datetime, behind: timedelta
) -> None:
    own = max(now - behind, datetime(1970, 1, 1, tzinfo=UTC))
    believed = estimate_time(Witnesses(RELEASED, own, act_on(history, own, None)))
    assert not is_expired(now, believed)


@given(st.lists(claims, max_size=5), nows, claims, st.timedeltas(timedelta(), RENEWAL))
def test_over_tls_no_history_and_no_own_clock_stop_a_device(
    history: list[datetime], now: datetime, own: datetime, age: timedelta
) -> None:
    believed = estimate_time(Witnesses(RELEASED, own, act_on(history, own, now), server=now))
    assert not is_expired(now - age, believed)


@given(st.lists(claims, max_size=5), nows, claims, st.timedeltas(timedelta(), timedelta(days=900)))
def test_over_tls_what_has_expired_never_passes(
    history: list[datetime], now: datetime, own: datetime, age: timedelta
) -> None:
    issued_at = now - LIFETIME - EXPIRY_SLACK - timedelta(seconds=1) - age
    believed = estimate_time(Witnesses(RELEASED, own, act_on(history, own, now), server=now))
    assert is_expired(issued_at, believed)


@given(nows, st.timedeltas(timedelta(), timedelta(days=900)))
def test_without_tls_an_honest_signed_time_still_bars_what_it_has_outlived(
    now: datetime, age: timedelta
) -> None:
    issued_at = now - LIFETIME - EXPIRY_SLACK - timedelta(seconds=1) - age
    assert is_expired(issued_at, estimate_time(Witnesses(RELEASED, own=now, signed=now)))


@given(st.lists(nows, min_size=1, max_size=5), nows)
def test_an_honest_history_keeps_its_latest_time(history: list[datetime], own: datetime) -> None:
    own = max(own, max(history))
    assert act_on(history, own, None) == max(history)


@given(claims, claims, claims)
def test_nothing_is_believed_before_the_release_nor_far_past_every_witness(
    signed: datetime, own: datetime, server: datetime
) -> None:
    for witness in (None, server):
        believed = estimate_time(Witnesses(RELEASED, own, signed, witness))
        assert believed >= RELEASED
        assert believed <= max(witness or max(own, RELEASED), RELEASED) + MAX_AHEAD


def set_clock(agent: Agent, year: int) -> None:
    moment = datetime(year, 1, 2, tzinfo=UTC).timestamp()
    agent.installer.journal.read_clock = lambda: moment


def issue(server: Server, year: int | None, *, counter: int) -> str:
    """Assigns another release, with times of `year`, or of today."""
    over: dict[str, object] = {}
    if year is not None:
        issued_at = datetime(year, 1, 1, tzinfo=UTC)
        over = {
            "issued_at": issued_at.isoformat(),
            "expires_at": (issued_at + LIFETIME).isoformat(),
        }
    return server.publish(
        make_model(seed=counter),
        counter=counter,
        sequence=counter,
        version=f"{counter}.0.0",
        assignment=over,
    )


def running(agent: Agent) -> str:
    current = agent.installer.state.model(MODEL).current
    return current.manifest_sha256 if current else ""


@pytest.mark.parametrize("clock", [None, 1970])
@pytest.mark.parametrize("year", [2031, 2099, 9998])
def test_after_an_assignment_from_the_future_the_next_one_is_acted_on(
    agent: Agent, server: Server, year: int, clock: int | None
) -> None:
    if clock is not None:
        set_clock(agent, clock)
    future = issue(server, year, counter=1)
    assert agent.sync() == {MODEL}
    assert running(agent) == future
    honest = issue(server, None, counter=2)
    assert agent.sync() == {MODEL}
    assert running(agent) == honest


def test_two_wrong_clocks_at_once_last_only_as_long_as_the_device_s(
    agent: Agent, server: Server
) -> None:
    issue(server, 2099, counter=1)
    agent.sync()
    set_clock(agent, 2098)
    honest = issue(server, None, counter=2)
    assert agent.sync() == set()
    assert "assignment_expired" in agent.trouble[f"model {MODEL}"]
    agent.installer.journal.read_clock = lambda: datetime.now(UTC).timestamp()
    assert agent.sync() == {MODEL}
    assert running(agent) == honest
    assert "2099" not in agent.installer.state.trusted_time


def test_a_new_key_starts_the_counter_and_the_clock_anew(
    agent: Agent, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(server, 2099, counter=1 << 62)
    agent.sync()
    monkeypatch.setattr(publisher, "ASSIGNMENT_KEY", SigningKey(b"b" * 32))
    honest = issue(server, None, counter=2)
    assert agent.sync() == set(), "the new key is not known yet"
    agent.installer.trust_keys = tuple(parse_trust_keys(make_trust_rows()))
    assert agent.sync() == {MODEL}
    assert running(agent) == honest
    assert agent.installer.state.model(MODEL).counter == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"signatures": [7]}'])
def test_a_damaged_proof_of_the_counter_lowers_nothing(
    agent: Agent, server: Server, damage: bytes
) -> None:
    issue(server, None, counter=5)
    agent.sync()
    agent.layout.assignment(MODEL).write_bytes(damage)
    issue(server, None, counter=4)
    assert agent.sync() == set()
    assert "counter_replayed" in agent.trouble[f"model {MODEL}"]
