"""Real TLS with real certificates: what is wrong is named exactly, and passes when it is mended."""

import dataclasses
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from edge_agent import RELEASED_ON
from edge_agent.agent import Agent
from edge_agent.cli.doctor import check_own_clock, examine_device
from edge_agent.config import Config
from edge_agent.control import tls
from edge_agent.exceptions import CertificateError, ConfigurationError, TlsError, TransferError
from servers.kept import Kept
from servers.patience import wait_for
from tests.edge_agent.install.test_bad_days import read_status
from tests.edge_agent.publisher import DEVICE, MODEL, make_model
from tests.edge_agent.test_run import TOML, all_records, start, write_inputs
from tests.edge_agent.tls_server import (
    YEAR,
    SecureServer,
    hang_up,
    reset,
    speak_plain,
    stay_silent,
)

__all__ = ["start"]
# TLS 1.0 is offered on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")

NOW = datetime.now(UTC)
RELEASED = datetime.fromisoformat(RELEASED_ON).replace(tzinfo=UTC)
Mode = Callable[[SecureServer], Callable[[socket.socket], socket.socket]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SecureServer]:
    server = SecureServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def config(config: Config, server: SecureServer) -> Config:
    network = dataclasses.replace(
        config.network, ca_file=str(server.ca_file), connect_timeout_s=1.0, read_timeout_s=1.0
    )
    return dataclasses.replace(config, network=network)


@dataclasses.dataclass(frozen=True)
class Fault:
    """How the server speaks, the error the agent raises, its words, and `doctor`'s advice."""

    mode: Mode
    error: type[TransferError]
    words: str
    advice: str


FAULTS = {
    # To a device, a clock that is years ahead and a certificate that is years old look the same.
    "an expired certificate, or a clock years ahead": Fault(
        lambda server: server.speak_tls(starts_at=NOW - 9 * YEAR, ends_at=NOW - 5 * YEAR),
        CertificateError, "has expired, by this device's clock, which says 20", "clock first",
    ),
    "another host's name": Fault(
        lambda server: server.speak_tls(names=("elsewhere.example",)),
        CertificateError, "not valid for 'localhost'", "server_url",
    ),
    "an unknown authority": Fault(
        lambda server: server.speak_tls(authority=trustme.CA()),
        CertificateError, "issuer certificate", "ca_file",
    ),
    "a captive portal that signs for itself": Fault(
        lambda server: self_signed(),
        CertificateError, "self-signed certificate", "log in",
    ),
    "TLS 1.0 and nothing else": Fault(
        lambda server: server.speak_tls(version=ssl.TLSVersion.TLSv1),
        TlsError, "no TLS of version 1.2", "1.2 or later",
    ),
    "plain HTTP": Fault(
        lambda server: speak_plain, TlsError, "does not speak TLS", "plain http",
    ),
    "a connection cut in mid-handshake": Fault(
        lambda server: hang_up, TlsError, "cut in the middle", "firewall",
    ),
    "a connection reset in mid-handshake": Fault(
        lambda server: reset, TransferError, "reset", "firewall",
    ),
    "a handshake that never ends": Fault(
        lambda server: stay_silent, TransferError, "timed out", "firewall",
    ),
}  # fmt: skip


def self_signed() -> Callable[[socket.socket], socket.socket]:
    """A mode whose certificate is its own authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with (
        authority.cert_pem.tempfile() as chain,
        authority.private_key_pem.tempfile() as key,
    ):
        context.load_cert_chain(chain, key)
    return lambda plain: context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)


@pytest.mark.parametrize("name", FAULTS)
def test_what_stands_in_the_way_of_tls_is_named_and_passes_when_it_is_mended(
    agent: Agent, server: SecureServer, config: Config, name: str
) -> None:
    fault = FAULTS[name]
    digest = server.publish(make_model())
    right, server.mode = server.mode, fault.mode(server)
    # Connections from before the fault would still be good.
    agent.transport._pool.clear()
    with pytest.raises(fault.error) as caught:
        agent.sync()
    assert fault.words in str(caught.value)
    (failed,) = [check for check in examine_device(config) if check.name == "server"]
    assert not failed.is_ok
    assert fault.words in failed.detail
    assert fault.advice in failed.advice
    server.mode = right
    assert agent.sync() == {MODEL}
    current = agent.installer.state.model(MODEL).current
    assert current is not None and current.manifest_sha256 == digest


@pytest.mark.parametrize("years", [1, 50])
def test_a_device_whose_clock_is_years_behind_enrols_installs_and_knows_the_time(
    server: SecureServer, config: Config, years: int, caplog: pytest.LogCaptureFixture
) -> None:
    # The certificate is moved instead of the clock, which this machine shares with others.
    server.mode = server.speak_tls(starts_at=NOW + years * YEAR, ends_at=NOW + (years + 1) * YEAR)
    server.publish(make_model())
    agent = Agent(config)
    try:
        assert agent.enroll() == "accepted"
        assert agent.sync() == {MODEL}
        assert agent.installer.journal.server_time is not None
        assert "the clock is behind" in caplog.text
    finally:
        agent.close()


#: What is wrong with a certificate beside its beginning being in the future.
BEHIND_AND: dict[str, Mode] = {
    "an unknown authority": lambda server: server.speak_tls(
        starts_at=NOW + YEAR, ends_at=NOW + 2 * YEAR, authority=trustme.CA()
    ),
    "another host's name": lambda server: server.speak_tls(
        starts_at=NOW + YEAR, ends_at=NOW + 2 * YEAR, names=("elsewhere.example",)
    ),
}


@pytest.mark.parametrize("name", BEHIND_AND)
def test_a_clock_that_is_behind_excuses_nothing_else(
    server: SecureServer, config: Config, name: str
) -> None:
    server.mode = BEHIND_AND[name](server)
    agent = Agent(config)
    try:
        with pytest.raises(CertificateError):
            agent.enroll()
    finally:
        agent.close()


def test_a_certificate_that_ended_before_the_agent_was_released_is_refused(
    server: SecureServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.mode = server.speak_tls(starts_at=NOW + YEAR, ends_at=NOW + 2 * YEAR)
    monkeypatch.setattr(tls, "RELEASED_ON", "2099-01-01")
    agent = Agent(config)
    try:
        with pytest.raises(TlsError, match="certificate ended"):
            agent.enroll()
    finally:
        agent.close()


def test_once_the_clock_is_set_the_dates_count_again(agent: Agent, server: SecureServer) -> None:
    right, server.mode = server.mode, server.speak_tls(starts_at=NOW + YEAR, ends_at=NOW + 2 * YEAR)
    agent.transport._pool.clear()
    agent.sync()
    server.mode = server.speak_tls(starts_at=NOW - 9 * YEAR, ends_at=NOW - 5 * YEAR)
    server.close_connections()
    with pytest.raises(CertificateError, match="has expired"):
        agent.sync()
    server.mode = right
    agent.sync()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_file_that_is_none_is_named(
    config: Config, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "other.pem"
    if content is not None:
        path.write_bytes(content)
    broken = dataclasses.replace(
        config, network=dataclasses.replace(config.network, ca_file=str(path))
    )
    agent = Agent(broken)
    try:
        with pytest.raises(ConfigurationError, match=r"other\.pem"):
            agent.enroll()
        assert any("other.pem" in check.detail for check in examine_device(broken))
    finally:
        agent.close()


def test_without_a_server_doctor_still_sees_a_clock_from_before_the_release() -> None:
    assert not check_own_clock(0.0).is_ok
    assert check_own_clock(RELEASED.timestamp()).is_ok


@pytest.fixture
def toml(server: SecureServer, tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    text = TOML.format(device=DEVICE, url=server.url, model=MODEL)
    limits = f'[network]\nca_file = "{server.ca_file}"\nconnect_timeout_s = 0.5\n'
    path.write_text(text.replace("[network]\n", limits + "read_timeout_s = 0.5\n"))
    write_inputs(tmp_path / "inputs.npz", 1.0)
    return path


def test_through_every_fault_of_tls_the_process_serves_says_why_and_recovers_alone(
    server: SecureServer, toml: Path, start: Callable[[], Kept]
) -> None:
    server.publish(make_model())
    process = start()
    wait_for(lambda: len(all_records(server)) > 5)
    right = server.mode
    for number, (name, fault) in enumerate(FAULTS.items(), start=2):
        server.mode = fault.mode(server)
        server.close_connections()
        digest = server.publish(
            make_model(seed=number), counter=number, sequence=number, version=f"{number}.0.0"
        )
        wait_for(lambda: fault.words in json.dumps(read_status(toml)["trouble"]))  # noqa: B023
        before = read_status(toml)["models"][MODEL]["latency"]["count"]
        wait_for(
            lambda: read_status(toml)["models"][MODEL]["latency"]["count"] > before  # noqa: B023
        )
        assert read_status(toml)["models"][MODEL]["manifest_sha256"] != digest, name
        server.mode = right
        wait_for(
            lambda: read_status(toml)["models"][MODEL]["manifest_sha256"] == digest  # noqa: B023
        )
        wait_for(lambda: read_status(toml)["trouble"] == {})
        assert process.poll() is None, name
