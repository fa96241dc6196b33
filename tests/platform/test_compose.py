"""The production shape: what the container files promise, read from the files themselves."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
SERVERS = ("migrate", "web", "worker", "compression", "beat")


def test_every_part_of_the_production_shape_is_a_service():
    assert {"web", "worker", "compression", "beat", "postgres", "redis", "s3"} <= set(SERVICES)


@pytest.mark.parametrize(
    "name", ["signer", "worker", "compression", "beat", "postgres", "redis", "s3"]
)
def test_every_long_lived_service_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"]


def test_the_web_service_takes_its_health_check_from_the_image():
    assert "healthcheck" not in SERVICES["web"]
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_signing_service_alone_can_read_a_private_key() -> None:
    signer = SERVICES["signer"]
    keys = next(text for text in signer["volumes"] if text.startswith("keys:"))
    assert keys.split(":")[1] in signer["command"]
    assert signer["network_mode"] == "none"
    users = {name: service.get("user", "image") for name, service in SERVICES.items()}
    assert [name for name, user in users.items() if user == signer["user"]] == ["signer"]
    for name, service in SERVICES.items():
        mounted = [text.split(":")[0] for text in service.get("volumes", [])]
        assert ("keys" in mounted) == (name == "signer"), name
        assert "AVIARY_KEYS_DIR" not in service.get("environment", {}), name


@pytest.mark.parametrize("name", ["postgres", "redis", "s3"])
def test_no_store_runs_as_root_and_each_keeps_its_data_in_a_named_volume(name):
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    volume = service["volumes"][0].split(":")[0]
    assert volume in COMPOSE["volumes"]


@pytest.mark.parametrize("name", ["postgres", "redis", "s3"])
def test_images_are_pinned(name):
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image
    assert tag
    assert tag != "latest"


@pytest.mark.parametrize("path", ["Dockerfile", "edge_agent/Dockerfile"])
def test_images_end_as_an_ordinary_user(path):
    users = [
        line.split()[1]
        for line in (ROOT / path).read_text(encoding="utf-8").splitlines()
        if line.startswith("USER ")
    ]
    assert users
    assert users[-1] not in {"root", "0"}


def test_no_secret_stands_in_the_file():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "DATABASE_URL")):
                assert name.endswith("_FILE"), name
                assert str(value).startswith("/run/secrets/")
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")


@pytest.mark.parametrize("name", SERVERS)
def test_servers_drop_privileges(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_secrets_are_never_committed_or_copied_into_an_image():
    assert "secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert "secrets" in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def test_the_image_holds_no_secret_key_and_its_static_files_lie_outside_the_volume():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^RUN AVIARY_HOME=/tmp/(\w+) .*collectstatic.* && rm -r /tmp/\1$", text, re.M)
    static = re.search(r"AVIARY_STATIC_ROOT=(\S+)", text)
    assert static is not None
    volumes = [volume.split(":")[1] for volume in SERVICES["web"]["volumes"]]
    assert not any(static[1].startswith(path) for path in volumes)


def test_the_agent_s_image_says_when_its_loop_has_stopped():
    assert "HEALTHCHECK" in (ROOT / "edge_agent" / "Dockerfile").read_text(encoding="utf-8")
