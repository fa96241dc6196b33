"""The parts of the client that need no server."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aviary_client.cli import main, make_parser
from aviary_client.cli.arguments import find_files, read_pairs, read_selector
from aviary_client.credentials import (
    Credentials,
    find_credentials,
    forget_credentials,
    keep_credentials,
)
from aviary_client.downloads import download_files
from aviary_client.errors import (
    ApiError,
    DigestError,
    Exit,
    OutcomeError,
    SettingsError,
    TransferError,
    UsageError,
    WaitTimeoutError,
)
from aviary_client.transport import Transport
from aviary_client.waiting import AWAY_SECONDS, check_rollout, wait_for


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"AVIARY_CREDENTIALS": str(tmp_path / "own" / "credentials.json")}


def test_a_kept_token_is_one_s_own_to_read_and_each_server_has_its_own(
    environment: dict[str, str],
) -> None:
    first = Credentials("https://a.example", "token-a")
    second = Credentials("https://b.example", "token-b")
    path = keep_credentials(first, environment)
    keep_credentials(second, environment)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert find_credentials(None, environment) == second
    assert find_credentials("https://a.example/", environment) == first
    assert forget_credentials("https://b.example", environment)
    assert not forget_credentials("https://b.example", environment)
    with pytest.raises(SettingsError, match="No token for https://b"):
        find_credentials(None, environment)


def test_the_environment_counts_before_the_file(environment: dict[str, str]) -> None:
    keep_credentials(Credentials("https://a.example", "token-a"), environment)
    given = {**environment, "AVIARY_SERVER": "https://c.example", "AVIARY_TOKEN": "token-c"}
    assert find_credentials(None, given) == Credentials("https://c.example", "token-c")
    with pytest.raises(SettingsError, match="Which server"):
        find_credentials(None, {"AVIARY_CREDENTIALS": "/nowhere/at/all"})
    Path(environment["AVIARY_CREDENTIALS"]).write_text("[]")
    with pytest.raises(SettingsError, match="no file of this program"):
        find_credentials(None, environment)


@pytest.mark.parametrize("server", ["ftp://a.example", "a.example", "http://a.example", ""])
def test_a_token_is_never_sent_in_clear_text_over_a_network(server: str) -> None:
    with pytest.raises(SettingsError):
        Transport(server, "token")
    Transport("http://127.0.0.1:8000", "token")


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(answers: list[Any], clock: Clock, **over: Any) -> Any:
    def ask() -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return wait_for(
        ask, lambda value: value == "done",
        **{"what": "It", "timeout_seconds": 10_000.0, "interval_seconds": 5.0, **over},
        clock=clock, sleep=clock.sleep,
    )  # fmt: skip


def test_waiting_outlasts_a_restart_of_the_server_and_no_more() -> None:
    clock = Clock()
    away = TransferError("away")
    assert wait(["busy", away, away, "busy", "done"], clock) == "done"
    assert clock.now == 20
    with pytest.raises(TransferError):
        wait([away], clock)
    assert AWAY_SECONDS <= clock.now - 20 <= AWAY_SECONDS + 10
    with pytest.raises(WaitTimeoutError, match="not over within 12 s"):
        wait(["busy"], Clock(), timeout_seconds=12.0)


@pytest.mark.parametrize(
    ("state", "status"),
    [("aborted", 20), ("rolled_back", 20), ("paused", 21), ("superseded", 22), ("draft", 10)],
)
def test_each_end_of_a_rollout_has_its_exit_status(state: str, status: int) -> None:
    rollout: Any = {"id": 3, "state": state, "reason": "drift"}
    with pytest.raises(OutcomeError, match=f"Rollout 3 is {state.replace('_', ' ')}: drift") as it:
        check_rollout(rollout)
    assert it.value.exit == status
    rollout["state"] = "completed"
    check_rollout(rollout)


@pytest.mark.parametrize(("status", "expected"), [(401, 3), (403, 3), (404, 4), (409, 1), (500, 1)])
def test_each_refusal_has_its_exit_status(status: int, expected: int) -> None:
    assert ApiError(status, "code", "words").exit == expected
    assert len({int(code) for code in Exit}) == len(Exit)


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "", "a\\..\\b", "a\0b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    file: Any = {"path": path, "role": "model", "sha256": "0" * 64, "size_bytes": 1, "url": "x"}
    with pytest.raises(DigestError, match="leads out"):
        download_files(Transport("http://localhost", "t"), [file], tmp_path / "here")
    assert not any(tmp_path.rglob("evil"))


def test_folders_give_their_files_by_their_names_in_them(tmp_path: Path) -> None:
    for name in ("a/model.onnx", "a/data/weights.bin", "a/.git/config", "b/model.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert set(find_files([str(tmp_path / "a")])) == {"model.onnx", "data/weights.bin"}
    with pytest.raises(UsageError, match=r"Two files would be model\.onnx"):
        find_files([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(UsageError, match="no file or folder"):
        find_files([str(tmp_path / "none")])


def test_pairs_are_read() -> None:
    assert read_pairs(["site=a", "x=y=z"], "label") == {"site": "a", "x": "y=z"}
    assert read_selector(["site=a", "site=b"]) == {"site": ["a", "b"]}
    for wrong in ("site", "=a", "site="):
        with pytest.raises(UsageError, match="expects key=value"):
            read_pairs([wrong], "label")


@pytest.mark.parametrize("arguments", [["models", "--json"], ["--json", "models"]])
def test_without_a_server_a_command_says_so_in_words_or_as_json(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("AVIARY_SERVER", "AVIARY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AVIARY_CREDENTIALS", str(tmp_path / "none.json"))
    assert main(arguments) == Exit.NOT_ALLOWED
    said: Mapping[str, Any] = json.loads(capsys.readouterr().err)
    assert said["code"] == "not_logged_in" and "aviary login" in said["message"]


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("aviary_client.transport.CONNECT_SECONDS", 1.0)
    monkeypatch.setenv("AVIARY_TOKEN", "t")
    monkeypatch.setattr("urllib3.util.Retry.get_backoff_time", lambda self: 0.0)
    assert main(["models", "--server", "http://127.0.0.1:1"]) == Exit.UNREACHABLE
    assert "127.0.0.1:1 did not answer" in capsys.readouterr().err


def test_every_command_has_help_and_takes_json() -> None:
    parser = make_parser()
    for command in ("models", "push m 1 f", "rollout watch 3", "join-token list"):
        assert parser.parse_args([*command.split(), "--json"]).json is True
