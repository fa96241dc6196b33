"""A device's first minutes: one command to enrol, a service, and a release shipped with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.agent_kill import Soak
from edge_agent.agent import Agent
from edge_agent.cli import main, service
from edge_agent.cli.service import check_reach, render_unit
from edge_agent.config import Config, load_config
from edge_agent.control import enrolment
from edge_agent.control.enrolment import (
    default_config_path,
    default_device_id,
    default_home,
    prepare_settings,
)
from edge_agent.exceptions import ConfigurationError
from tests.edge_agent.control.test_network import answer
from tests.edge_agent.publisher import DEVICE, MODEL, Server, make_model

REPOSITORY = Path(__file__).resolve().parents[3]
JSON = {"Content_Type": "application/json"}


def enrol_arguments(path: Path, url: str) -> list[str]:
    return [
        "enroll", "--config", str(path), "--server", url, "--device-id", DEVICE,
        "--home", str(path.parent / "home"), "--join-token", "join",
    ]  # fmt: skip


def test_one_command_writes_the_settings_and_enrols(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "etc" / "agent.toml"
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *enrol_arguments(path, server.url)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "accepted"
    config = load_config(path)
    assert (config.device_id, config.server_url) == (DEVICE, server.url)
    assert "join" not in path.read_text(), "the token stays out of the settings"
    assert (path.parent / "home" / "credentials.json").stat().st_mode & 0o077 == 0


def test_enrolling_again_with_the_same_words_changes_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.toml"
    assert main(enrol_arguments(path, server.url)) == 0
    before = path.read_bytes()
    assert main(enrol_arguments(path, server.url)) == 0
    assert path.read_bytes() == before
    assert sum(path == "/api/devices/enroll" for _, path, _ in server.requests) == 1


REFUSED = {
    "no file and no address": ("", "", "name the control plane"),
    "an address that is none": ("", "aviary.example", "expected http"),
    "another scheme": ("", "ftp://aviary.example", "expected http"),
    "another server than the file's": ("https://a.example", "https://b.example", "says server_url"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unclear_settings_are_refused_and_not_written(name: str, tmp_path: Path) -> None:
    first, url, words = REFUSED[name]
    path = tmp_path / "agent.toml"
    if first:
        prepare_settings(path, server_url=first, device_id="", home="")
    before = path.read_bytes() if first else None
    with pytest.raises(ConfigurationError, match=words):
        prepare_settings(path, server_url=url, device_id="", home="")
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_device_without_a_name_gets_one_the_server_takes_and_keeps_it() -> None:
    name = default_device_id()
    assert name == default_device_id()
    assert 0 < len(name) <= 128
    assert all(letter.isalnum() or letter in "._-" for letter in name)


def test_a_user_whom_passwd_does_not_know_can_run_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `DynamicUser` makes of the service: no HOME, and a number without a name."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "AVIARY_AGENT_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: 2**31 - 7)
    assert default_config_path() == Path("/etc/aviary-agent/agent.toml")
    assert default_home() == Path("/var/lib/aviary-agent")
    settings = tmp_path / "agent.toml"
    settings.write_text(
        '[agent]\ndevice_id = "a"\nserver_url = "http://a.example"\nhome = "home"\n'
    )
    assert main(["--config", str(settings), "status"]) == 0


@pytest.mark.parametrize("text", ["", "uninitialized\n"])
def test_a_machine_id_that_copies_of_an_image_share_is_no_name(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machine-id").write_text(text)
    monkeypatch.setattr(enrolment, "MACHINE_ID", tmp_path / "machine-id")
    assert default_device_id() == enrolment.clean_host_name()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what another user owns")
def test_what_root_types_leaves_nothing_that_the_service_cannot_replace(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, home = tmp_path / "agent.toml", tmp_path / "home"
    assert main(enrol_arguments(path, server.url)) == 0
    for entry in (home, *home.rglob("*")):
        os.chown(entry, 61_000, 61_000)
    server.publish(make_model())
    linked = tmp_path / "elsewhere"
    linked.write_text("root's own")
    os.link(linked, home / "second-name")
    for command in (["sync"], ["pin", "--model", MODEL], ["spool", "stat"]):
        assert main(["--config", str(path), *command]) == 0, command
    others = {entry.name for entry in home.rglob("*") if entry.stat().st_uid != 61_000}
    assert others == {"second-name"}
    assert linked.stat().st_uid == 0
    capsys.readouterr()
    assert main(["--config", str(path), "doctor"]) == 1
    assert "chown -hR 61000" in capsys.readouterr().out, "what was not handed over is named"


def test_a_failed_enrolment_leaves_no_settings_that_bind_the_next_try(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.toml"
    server.hooks.append(("enroll", answer(409, b'{"code": "device_exists"}', **JSON)))
    assert main(enrol_arguments(path, server.url)) == 1
    assert "--device-id" in capsys.readouterr().err, "the error says what to do"
    assert not path.exists()
    server.hooks.clear()
    assert main(enrol_arguments(path, server.url)) == 0
    assert path.exists()


def test_files_that_the_settings_name_lie_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        '[agent]\ndevice_id = "a"\nserver_url = "http://a.example"\nhome = "home"\n'
        'join_token_file = "join-token"\n[network]\nca_file = "ca.pem"\n'
    )
    config = load_config(path)
    assert config.network.ca_file == str(tmp_path / "ca.pem")
    with pytest.raises(ConfigurationError, match=r"join_token_file.*join-token"):
        config.read_join_token()
    (tmp_path / "join-token").write_text("token\n")
    assert config.read_join_token() == "token"


def test_a_service_is_not_installed_where_its_user_could_not_start_it(tmp_path: Path) -> None:
    program = tmp_path / "closed" / "aviary-agent"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\n")
    with pytest.raises(ConfigurationError, match=r"chmod o\+rX"):
        check_reach([program])
    for home in service.HOMES:
        with pytest.raises(ConfigurationError, match="cannot look into"):
            check_reach([Path(home) / "a" / "agent.toml"])
    check_reach([Path("/usr/bin/env"), Path("/etc/passwd")])


def test_a_service_is_not_installed_before_the_device_has_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.toml"
    home = Path("/var/lib") / f"aviary-no-such-{os.getpid()}"
    path.write_text(f'[agent]\ndevice_id = "a"\nserver_url = "http://a.example"\nhome = "{home}"\n')
    monkeypatch.setattr(service, "own_program", lambda: Path("/usr/bin/env"))
    monkeypatch.setattr(service, "check_reach", lambda paths: None)
    assert main(["--config", str(path), "install-service"]) == 1
    assert "enrol first" in capsys.readouterr().err
    assert not home.exists()


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "aviary-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    config = Path("/etc/aviary-agent/agent.toml")
    text = render_unit(program=program, config_path=config, home=Path("/var/lib/aviary-agent"))
    assert f"ExecStart={program} --config {config} run\n" in text
    assert "StateDirectory=aviary-agent\n" in text
    assert "@" not in text.replace("SystemCallFilter=@system-service", "")
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "aviary-agent.service"
    unit.write_text(text)
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "aviary-agent.service" not in done.stderr, done.stderr


@pytest.mark.parametrize("home", ["/srv/agent", "/var/lib/a/b", "/var/lib/a b"])
def test_a_unit_is_not_made_for_a_home_it_could_not_own(home: str) -> None:
    with pytest.raises(ConfigurationError):
        render_unit(program=Path("/a"), config_path=Path("/b"), home=Path(home))


def test_a_release_that_ran_is_shipped_and_runs_where_there_is_no_network(
    agent: Agent, server: Server, config: Config, tmp_path: Path
) -> None:
    server.publish(make_model())
    agent.sync()
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\ndevice_id = "{DEVICE}"\nserver_url = "{server.url}"\nhome = "home"')
    assert main(["--config", str(path), "factory", "add", "--current"]) == 0
    shipped = tmp_path / "new" / "factory"
    shutil.copytree(config.home / "factory", shipped)
    server.close()
    device = Agent(Config(device_id="new-1", server_url=server.url, home=tmp_path / "new"))
    try:
        device.installer.boot()
        device.load_sessions()
        assert device.slots[MODEL].session is not None
    finally:
        device.close()
    assert sorted(os.listdir(shipped)) == sorted(os.listdir(config.home / "factory"))


def test_a_damaged_factory_release_is_not_run(agent: Agent, server: Server, config: Config) -> None:
    digest = server.publish(make_model())
    agent.sync()
    from edge_agent.releases.factory import add_current

    add_current(agent.files, agent.layout, MODEL)
    for path in agent.layout.factory.iterdir():
        if path.suffix != ".json":
            path.write_bytes(path.read_bytes()[:-1] + b"?")
            agent.layout.blob(path.name).write_bytes(b"damaged too")
    agent.installer.boot()
    agent.load_sessions()
    assert agent.installer.state.model(MODEL).current is None
    assert agent.slots[MODEL].session is None
    agent.sync()
    current = agent.installer.state.model(MODEL).current
    assert current is not None and current.manifest_sha256 == digest, "a poll brings it back"


def test_an_agent_killed_at_random_moments_always_has_a_verified_release(tmp_path: Path) -> None:
    soak = Soak(tmp_path, seed=5)
    try:
        soak.play(12)
    finally:
        soak.server.close()
    assert soak.findings.violations == []
    assert soak.findings.kills == 12
