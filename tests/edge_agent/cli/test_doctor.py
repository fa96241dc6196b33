"""Broken devices, and what a person is told about each."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.agent import Agent
from edge_agent.cli import doctor, main
from edge_agent.cli.doctor import advise, examine_device
from edge_agent.config import Config, InferenceConfig, InstallConfig, SpoolConfig
from tests.edge_agent.control.test_network import PORTAL, answer
from tests.edge_agent.publisher import Server, make_golden, make_model

Break = Callable[[Agent, Server, Config], Config]


def change(**over: Any) -> Break:
    return lambda agent, server, config: dataclasses.replace(config, **over)


def hook(pattern: str, reply: Any) -> Break:
    def act(agent: Agent, server: Server, config: Config) -> Config:
        server.hooks.append((pattern, reply))
        return config

    return act


def open_to_others(agent: Agent, server: Server, config: Config) -> Config:
    agent.layout.credentials.chmod(0o644)
    return config


def damage(name: str) -> Break:
    def act(agent: Agent, server: Server, config: Config) -> Config:
        (config.home / name).write_bytes(b"{")
        return config

    return act


def forget(agent: Agent, server: Server, config: Config) -> Config:
    agent.layout.credentials.unlink()
    return config


def fail_self_test(agent: Agent, server: Server, config: Config) -> Config:
    model = make_model()
    server.publish(model, golden=make_golden(model, offset=0.5))
    agent.sync()
    return config


def home_is_a_file(agent: Agent, server: Server, config: Config) -> Config:
    path = config.home.parent / "file"
    path.write_bytes(b"")
    return dataclasses.replace(config, home=path)


def answer_in_2031(request: Any) -> bool:
    request.send_response_only(200)
    for name, value in (
        ("Date", "Wed, 01 Jan 2031 00:00:00 GMT"),
        ("Content-Type", "application/json"),
        ("Content-Length", "2"),
    ):
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(b"{}")
    return True


def flip_a_byte(agent: Agent, server: Server, config: Config) -> Config:
    server.publish(make_model())
    agent.sync()
    for path in agent.layout.blobs.iterdir():
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    return config


JSON = {"Content_Type": "application/json"}
#: How it is broken; which check fails; a word of the detail; a word of the advice.
BROKEN: dict[str, tuple[Break, str, str, str]] = {
    "an unknown host": (
        change(server_url="http://no-such-host.invalid"), "name", "no-such", "resolv.conf",
    ),
    "a closed port": (
        change(server_url="http://127.0.0.1:9"), "server", "refused", "running there",
    ),
    "a log-in page": (
        hook("/healthz", answer(200, PORTAL, Content_Type="text/html")), "server", "html", "log-in",
    ),
    "a server in trouble": (hook("/healthz", answer(503, b"{}", **JSON)), "server", "503", "else"),
    "a clock years off": (
        hook("/healthz", answer_in_2031), "clock", "from the server", "set the clock",
    ),
    "a revoked token": (hook("desired", answer(401, b"{}", **JSON)), "credential", "401", "enrol"),
    "a device not accepted": (
        hook("desired", answer(403, b'{"code": "device_pending"}', **JSON)),
        "credential", "device_pending", "admin",
    ),
    "a device never enrolled": (forget, "credential", "not enrolled", "join token"),
    "half a credential": (damage("credentials.json"), "credential", "damaged", "join token"),
    "a credential open to others": (open_to_others, "home", "by others", "chmod 600"),
    "a home that is no folder": (home_is_a_file, "home", "file", "home elsewhere"),
    "a full disk": (
        change(install=InstallConfig(disk_reserve_bytes=1 << 60)), "disk", "reserve", "make room",
    ),
    "a provider that is not there": (
        change(inference=InferenceConfig(providers=("rockchip",))),
        "provider rockchip", "", "library",
    ),
    "a damaged state": (damage("state.json"), "state", "state.json", "restart"),
    "a rebuilt state": (damage("state.corrupt"), "state", "rebuilt", "failing disk"),
    "a blocked release": (fail_self_test, "model digits-cnn", "self_test_failed", "unblock"),
    "a damaged release": (flip_a_byte, "model digits-cnn", "damaged on the disk", "restart"),
    "a full spool": (change(spool=SpoolConfig(max_bytes=1)), "spool", "dropped", "max_bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_what_to_do(
    agent: Agent, server: Server, config: Config, name: str
) -> None:
    act, check_name, detail, advice = BROKEN[name]
    broken = act(agent, server, config)
    failed = [check for check in examine_device(broken) if not check.is_ok]
    found = [check for check in failed if check.name == check_name]
    assert found, [vars(check) for check in failed]
    assert detail in found[0].detail
    assert advice in found[0].advice


def test_a_device_that_is_well_passes_every_check(
    agent: Agent, server: Server, config: Config
) -> None:
    server.publish(make_model())
    agent.sync()
    checks = examine_device(config)
    assert [vars(check) for check in checks if not check.is_ok] == []
    names = {check.name for check in checks}
    assert {"home", "disk", "fsync", "runtime", "name", "server", "clock", "credential"} <= names


def test_an_old_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_RUNTIME", "99.0")
    check = doctor.check_runtime()
    assert (check.is_ok, "99.0" in check.advice) == (False, True)


ERRORS = {
    "certificate verify failed: certificate has expired": "clock",
    "certificate verify failed: self-signed certificate": "ca_file",
    "the TLS handshake failed: it does not speak TLS at this port": "plain http",
    "the TLS handshake failed: it speaks no TLS of version 1.2 or later": "1.2 or later",
    "certificate verify failed: Hostname mismatch": "server_url",
    "timed out": "firewall",
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_failed_connection_comes_with_its_likely_cause(error: str) -> None:
    named = error.replace("certificate verify failed", "[SSL: CERTIFICATE_VERIFY_FAILED]")
    assert ERRORS[error] in advise(named)


def test_https_to_a_plain_server_is_recognised(config: Config, server: Server) -> None:
    url = server.url.replace("http://", "https://")
    checks = examine_device(dataclasses.replace(config, server_url=url))
    (failed,) = [check for check in checks if check.name == "server"]
    assert "plain http" in failed.advice, failed


def test_settings_that_cannot_be_read_are_named_and_the_command_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[agent]\ndevice = 1\n")
    assert main(["--config", str(path), "doctor"]) == 1
    assert "device_id is missing" in capsys.readouterr().err
