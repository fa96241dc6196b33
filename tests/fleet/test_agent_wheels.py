"""The agent's wheel: built alike everywhere, published with its digest, installed by address."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from edge_agent.packaging.build_wheel import build_wheel
from edge_agent.version import __version__
from fleet.exceptions import InvalidFleetInputError, PayloadTooLargeError
from fleet.models import AgentWheel
from fleet.services import agent_wheels
from registry.models import AuditEvent
from tests.factories.fleet import make_client


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def pack(name: str, version: str, folder: str = "") -> bytes:
    folder = folder or f"aviary_edge_agent-{version}.dist-info"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{folder}/METADATA", metadata)
    return stream.getvalue()


def test_the_same_sources_give_the_same_bytes_without_a_network(
    wheel: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "edge_agent/packaging/build_wheel.py", str(tmp_path)]
    # Proxies that nothing listens on: whatever asked a network would fail.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    subprocess.run(command, check=True, umask=0o077, env={**os.environ, **nowhere})
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_wheel_is_pure_python_with_four_dependencies_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        folder = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
        metadata = archive.read(f"{folder}/METADATA").decode()
        assert b"Root-Is-Purelib: true" in archive.read(f"{folder}/WHEEL")
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    core = {line.split()[1].split(">")[0] for line in needed if "extra ==" not in line}
    assert core == {"onnxruntime", "numpy", "urllib3", "PyNaCl"}
    assert {"edge_agent/packaging/aviary-agent.service", "edge_agent/guest/classify.wasm"} <= set(
        names
    )
    assert not [name for name in names if "test_" in name or name.endswith((".so", ".pyc"))]


def test_the_wheel_holds_every_module_of_the_agent(wheel: Path) -> None:
    sources = {path.as_posix() for path in Path("edge_agent").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.endswith(".py")}
    assert held == sources - {"edge_agent/packaging/build_wheel.py"}


@pytest.mark.django_db
def test_a_published_wheel_is_offered_to_devices_and_can_be_fetched_by_pip(wheel: Path) -> None:
    call_command("publish_agent", str(wheel), stdout=io.StringIO())
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    offered = make_client().client.get("/api/agent/").json()
    assert offered["sha256"] == sha256
    assert offered["size_bytes"] == wheel.stat().st_size
    assert offered["url"].endswith(f"/api/agent/{wheel.name}")
    fetched = Client().get(f"/api/agent/{wheel.name}")
    assert fetched.content == wheel.read_bytes()
    assert fetched["ETag"] == f'"{sha256}"'
    event = AuditEvent.objects.get(action="agent_wheel.published")
    assert event.details["sha256"] == sha256


@pytest.mark.django_db
def test_publishing_the_newest_again_changes_nothing(wheel: Path) -> None:
    for _ in range(2):
        call_command("publish_agent", str(wheel), stdout=io.StringIO())
    assert AgentWheel.objects.count() == 1
    assert AuditEvent.objects.filter(action="agent_wheel.published").count() == 1


@pytest.mark.django_db
def test_other_bytes_under_a_published_name_take_its_place_and_the_audit_log_says_so(
    wheel: Path,
) -> None:
    name, other = wheel.name, pack("aviary-edge-agent", __version__)
    first, _ = publish(name, wheel.read_bytes())
    second, is_new = publish(name, other)
    assert is_new
    assert second.blob_id != first.blob_id
    event = AuditEvent.objects.filter(action="agent_wheel.published").latest("pk")
    assert event.details["replaced_sha256"] == first.blob_id
    assert Client().get(f"/api/agent/{name}").content == other


def publish(name: str, content: bytes) -> tuple[AgentWheel, bool]:
    return agent_wheels.publish_agent_wheel(filename=name, stream=io.BytesIO(content), actor="ada")


GOOD_NAME = "aviary_edge_agent-0.1.0-py3-none-any.whl"
REFUSED: dict[str, tuple[str, bytes]] = {
    "another package's name": ("requests-1.0-py3-none-any.whl", pack("aviary-edge-agent", "0.1.0")),
    "a path": (f"../{GOOD_NAME}", pack("aviary-edge-agent", "0.1.0")),
    "a binary wheel": (
        "aviary_edge_agent-0.1.0-cp311-cp311-linux_x86_64.whl",
        pack("aviary-edge-agent", "0.1.0"),
    ),
    "no zip": (GOOD_NAME, b"<html>"),
    "another project inside": (GOOD_NAME, pack("something-else", "0.1.0")),
    "another version inside": (GOOD_NAME, pack("aviary-edge-agent", "0.2.0")),
    "no metadata": (
        "aviary_edge_agent-9.9-py3-none-any.whl",
        pack("aviary-edge-agent", "9.9", folder="somewhere"),
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_agent_is_refused(name: str) -> None:
    with pytest.raises(InvalidFleetInputError):
        publish(*REFUSED[name])
    assert not AgentWheel.objects.exists()


@pytest.mark.django_db
def test_an_enormous_wheel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_wheels, "MAX_WHEEL_BYTES", 100)
    with pytest.raises(PayloadTooLargeError):
        publish(GOOD_NAME, b"x" * 101)


@pytest.mark.django_db
def test_the_command_says_why_it_could_not(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("publish_agent", str(tmp_path / GOOD_NAME))


@pytest.mark.django_db
@pytest.mark.parametrize("name", [GOOD_NAME, "anything"])
def test_an_unpublished_wheel_is_404_in_the_one_error_shape(name: str) -> None:
    answer = Client().get(f"/api/agent/{name}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"code", "message", "details"}


@pytest.mark.django_db
def test_the_page_of_a_new_join_token_shows_the_commands_for_a_device(
    wheel: Path, admin_client: Any
) -> None:
    publish(wheel.name, wheel.read_bytes())
    answer = admin_client.post(
        "/admin/fleet/jointoken/add/",
        {"name": "bench", "max_uses": 1, "expires_at_0": "2100-01-01", "expires_at_1": "00:00"},
    )
    commands = answer.context["commands"]
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert f"/api/agent/{wheel.name}#sha256={sha256}" in commands[1]
    assert answer.context["secret"] in commands[2]
    assert "enroll --server http" in commands[2]


@pytest.mark.django_db
def test_people_see_the_published_wheels(wheel: Path, admin_client: Any) -> None:
    publish(wheel.name, wheel.read_bytes())
    page = admin_client.get("/admin/fleet/agentwheel/").content.decode()
    assert wheel.name in page
