"""What a release costs on the network is bounded, whatever crashes, and comes back with time."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agent import Agent
from edge_agent.clock import Clock
from edge_agent.config import Config
from edge_agent.exceptions import BudgetError
from edge_agent.install.budget import Allowance, Ledger, allow, refill
from edge_agent.releases.state import Spending
from edge_agent.releases.trust import parse_manifest
from edge_agent.requests import apply_request
from tests.edge_agent import power_cut_device
from tests.edge_agent.control.test_network import BLOB, CORRUPT, MODEL_BYTES, answer, is_installed
from tests.edge_agent.power_cut_device import Device, FakeResponse
from tests.edge_agent.publisher import MODEL, Server, make_manifest
from tests.edge_agent.simulated_disk import PowerCut, SimulatedDisk

DAY = 86_400.0
ALLOWANCE = Allowance(bytes=1000, attempts=10, refill_s=7 * DAY, step_bytes=100)


def clock_at(seconds: float, boot_id: str = "boot") -> Clock:
    """A clock that stands still; its wall time is nonsense, and counts for nothing."""
    return Clock(boot_id, since_boot=lambda: seconds, wall=lambda: -1e12)


def spend(bytes_taken: int = 0, attempts: float = 0.0, at_s: float = 0.0) -> Spending:
    return Spending("m", bytes_taken, attempts, "boot", at_s)


@given(st.lists(st.integers(1, 300), max_size=30), st.integers(0, 1000))
def test_what_has_come_was_written_down_before_and_never_passes_the_budget(
    takes: list[int], known: int
) -> None:
    written = [known]
    ledger = Ledger(
        spend(known), ALLOWANCE, clock_at(0), write=lambda s: written.append(s.bytes_taken)
    )
    taken = 0
    try:
        ledger.begin_attempt()
        for size in takes:
            ledger.take(size)
            taken += size
            assert known + taken <= written[-1] <= ALLOWANCE.bytes
            assert written[-1] <= known + taken + ALLOWANCE.step_bytes
    except BudgetError:
        assert known + taken + max([0, *takes]) >= ALLOWANCE.bytes - ALLOWANCE.step_bytes
    ledger.settle()
    assert written[-1] == known + taken


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, DAY)), max_size=20))
def test_no_more_comes_back_than_the_time_the_device_was_on(
    times: list[tuple[bool, float]],
) -> None:
    spending, now, boot, on_s = spend(1000, 10.0), 0.0, 0, 0.0
    for is_reboot, seconds in times:
        boot, now = (boot + 1, seconds) if is_reboot else (boot, now + seconds)
        on_s += seconds
        spending = refill(spending, ALLOWANCE, clock_at(now, "boot" + "x" * boot))
        share = on_s / ALLOWANCE.refill_s
        assert spending.bytes_taken >= 1000 * (1 - share) - 1e-6
        assert spending.attempts >= 10 * (1 - share) - 1e-6


def test_all_of_it_comes_back_in_its_time_and_no_more_than_that() -> None:
    half = refill(spend(1000, 10.0), ALLOWANCE, clock_at(3.5 * DAY))
    assert (half.bytes_taken, half.attempts) == (500, 5.0)
    assert refill(half, ALLOWANCE, clock_at(100 * DAY)).bytes_taken == 0
    assert refill(spend(10, 0.0, at_s=50.0), ALLOWANCE, clock_at(0.0)).bytes_taken == 10


def test_a_hundred_files_have_a_hundred_times_the_attempts_of_one() -> None:
    contents = {f"{number}": ("labels", bytes(1000)) for number in range(9)}
    contents["model.onnx"] = ("model", bytes(1000))
    manifest = parse_manifest(json.dumps(make_manifest(contents)).encode())
    allowance = allow(manifest, sizes=8.0, attempts=64, refill_s=DAY)
    assert allowance.attempts == 640
    assert allowance.bytes == 80_000 + 16 * allowance.step_bytes


def test_a_device_that_crashes_in_every_download_takes_no_more_than_its_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = [0]
    monkeypatch.setattr(power_cut_device, "FakeResponse", crash_after(served))
    disk, boots = SimulatedDisk(), 0
    while boots < 500:
        device = Device(disk)
        device.installer.release_fetch.clock = clock_at(0.0, f"boot {boots}")
        device.boot()
        try:
            device.poll("first")
        except PowerCut:
            # Nothing of the download survives: the worst that can happen to a metered link.
            disk, boots = disk.after_power_cut("none"), boots + 1
        except BudgetError:
            break
    assert 16 <= boots <= 40, "a step or more for each crash"
    before = served[0]
    with pytest.raises(BudgetError):
        device.poll("first")
    assert served[0] == before, "not one byte more"
    device.installer.release_fetch.clock = clock_at(7 * DAY, f"boot {boots}")
    with pytest.raises(PowerCut):
        device.poll("first")


def crash_after(served: list[int]) -> Callable[..., Any]:
    class Crash(FakeResponse):
        def read1(self, size: int, decode_content: bool) -> bytes:
            piece = super().read1(size, decode_content)
            served[0] += len(piece)
            if not self._pieces:
                raise PowerCut
            return piece

    return Crash


def downloads(server: Server) -> int:
    return sum(path == BLOB for _, path, _ in server.requests)


@pytest.fixture
def thrifty(config: Config) -> Config:
    install = dataclasses.replace(config.install, download_budget_attempts=6)
    return dataclasses.replace(config, install=install)


def sync_until_spent(config: Config) -> str:
    """Restarts the agent until it asks no more; what it says then."""
    for _ in range(60):
        agent = Agent(config)
        try:
            agent.enroll()
            agent.sync()
            trouble = agent.trouble.get(f"model {MODEL}", "")
        finally:
            agent.close()
        if "download_budget_spent" in trouble:
            return trouble
    raise AssertionError("it never stops")


def test_a_fault_that_lasts_over_restarts_costs_the_budget_and_then_nothing(
    server: Server, thrifty: Config
) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, answer(200, CORRUPT)))
    trouble = sync_until_spent(thrifty)
    assert "12 of 12 transfers" in trouble
    assert "comes back within 168 hours" in trouble
    spent = downloads(server)
    assert spent <= 12
    for _ in range(3):
        sync_until_spent(thrifty)
    assert downloads(server) == spent

    server.hooks.clear()
    agent = Agent(thrifty)
    try:
        assert agent.sync() == set(), "mended, and it cannot know"
        clock = agent.installer.release_fetch.clock
        agent.installer.release_fetch.clock = dataclasses.replace(
            clock, since_boot=lambda: clock.since_boot() + 4 * DAY
        )
        assert agent.sync() == {MODEL}, "by itself, with time"
        assert agent.installer.state.model(MODEL).spending is None
    finally:
        agent.close()


def test_a_person_can_give_the_budget_back_and_another_release_has_its_own(
    server: Server, thrifty: Config
) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, answer(200, CORRUPT)))
    sync_until_spent(thrifty)
    agent = Agent(thrifty)
    try:
        server.hooks.clear()
        assert agent.sync() == set()
        assert apply_request(agent, {"action": "unblock", "model": MODEL})
        assert agent.sync() == {MODEL}
        assert is_installed(agent)
        server.publish(MODEL_BYTES, counter=2, sequence=2, version="2.0.0")
        assert agent.sync() == {MODEL}
    finally:
        agent.close()


def test_a_server_of_files_that_is_away_costs_transfers_and_no_bytes(
    server: Server, config: Config
) -> None:
    server.publish(MODEL_BYTES)
    server.hooks.append((BLOB, answer(503, b"")))
    agent = Agent(config)
    try:
        agent.enroll()
        for _ in range(3):
            agent.sync()
        spending = agent.installer.state.model(MODEL).spending
        assert spending is not None
        assert spending.bytes_taken == 0
        assert round(spending.attempts) == 3 * config.install.download_attempts
    finally:
        agent.close()
