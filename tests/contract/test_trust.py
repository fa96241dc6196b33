"""Keys change while devices run: the real agent against a server whose keys are rotated."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from edge_agent.agent import Agent
from edge_agent.config import Config
from edge_agent.exceptions import TrustExpiredError
from fleet.models import Deployment
from registry.services import trust, trust_renewal
from registry.signer.keys import FileKeyStore
from tests.factories.fleet import make_deployment, make_join_token, make_release, set_at_once
from tests.factories.registry import make_model

pytestmark = pytest.mark.django_db(transaction=True)
DEVICE = "edge-001"


@pytest.fixture
def keys(tmp_path: Path, settings: Any) -> FileKeyStore:
    settings.AVIARY_KEYS_DIR = tmp_path / "keys"
    return FileKeyStore(tmp_path / "keys")


@pytest.fixture
def offline(keys: FileKeyStore, tmp_path: Path) -> Path:
    call_command("trust", "init", str(tmp_path / "offline"))
    return tmp_path / "offline"


@pytest.fixture
def agent(live_server: Any, tmp_path: Path) -> Iterator[Agent]:
    with_root = Config(
        device_id=DEVICE,
        server_url=live_server.url,
        home=tmp_path / "home",
        models=("digits",),
        join_token=make_join_token(is_auto_accept=True),
    )
    agent = Agent(with_root)
    yield agent
    agent.close()


def deploy() -> Deployment:
    return make_deployment(stable_version=make_release(make_model(slug="digits")))


def release_next(deployment: Deployment) -> None:
    """Another version for everybody."""
    set_at_once(deployment, make_release(deployment.model))


def rotate(keys: FileKeyStore, offline: Path, role: str, *, is_revoked: bool) -> None:
    """What docs/operations.md says: prepare, tell the devices, finish, tell them again."""
    file = offline / "targets.json"
    keys.prepare_rotation(role)
    publish_targets(offline, file)
    keys.finish_rotation(role, is_revoked=is_revoked)
    publish_targets(offline, file)
    if is_revoked and role == "manifest":
        call_command("trust", "sign-again")


def publish_targets(offline: Path, file: Path) -> None:
    call_command("trust", "prepare-targets", str(file))
    call_command("trust", "sign", str(file), str(offline / "targets.key"))
    call_command("trust", "publish", str(file))


@pytest.mark.parametrize("is_revoked", [False, True])
@pytest.mark.parametrize("role", ["manifest", "assignment"])
def test_a_device_follows_a_rotation_in_band(
    agent: Agent, keys: FileKeyStore, offline: Path, role: str, is_revoked: bool
) -> None:
    deployment = deploy()
    agent.enroll()
    assert agent.sync() == {"digits"}
    rotate(keys, offline, role, is_revoked=is_revoked)
    release_next(deployment)
    agent.trust._tried_at = None  # a minute later
    assert agent.sync() == {"digits"}
    assert "trust" not in agent.trouble
    assert not [text for text in agent.trouble.values() if "signature" in text]


def test_what_a_revoked_key_signs_is_refused_and_the_running_model_stays(
    agent: Agent, keys: FileKeyStore, offline: Path, tmp_path: Path
) -> None:
    deployment = deploy()
    agent.enroll()
    agent.sync()
    running = agent.installer.state.model("digits").current
    stolen = (tmp_path / "keys" / "assignment.key").read_bytes()
    rotate(keys, offline, "assignment", is_revoked=True)
    agent.trust._tried_at = None
    agent.sync()
    # The thief sits in the web server and signs with what was stolen.
    release_next(deployment)
    (tmp_path / "keys" / "assignment.key").write_bytes(stolen)
    assert agent.sync() == set()
    assert agent.trouble["model digits"].startswith("signature_invalid")
    assert agent.installer.state.model("digits").current == running
    assert agent.installer.release_store.is_whole(running)


def test_a_device_keeps_its_release_whose_key_was_revoked(
    agent: Agent, keys: FileKeyStore, offline: Path
) -> None:
    deploy()
    agent.enroll()
    agent.sync()
    rotate(keys, offline, "manifest", is_revoked=True)
    agent.trust._tried_at = None
    agent.sync()
    again = Agent(agent.config)
    again.installer.boot()
    current = again.installer.state.model("digits").current
    assert current is not None and again.installer.release_store.is_whole(current)
    again.close()


def test_a_device_from_before_the_root_is_introduced_by_the_keys_it_believes(
    agent: Agent, keys: FileKeyStore, tmp_path: Path
) -> None:
    deployment = deploy()
    enrol_without_root(agent)
    agent.trust._renewed_at = agent.trust._tried_at = None
    agent.sync()
    assert agent.trust.updater.is_begun()
    rotate(keys, tmp_path / "keys" / "offline", "assignment", is_revoked=True)
    release_next(deployment)
    agent.trust._tried_at = None
    assert agent.sync() == {"digits"}


def enrol_without_root(agent: Agent) -> None:
    """As an agent of before did: it leaves the root in the answer alone."""
    agent.trust.begin = lambda offered, *, now: None  # type: ignore[method-assign]
    agent.enroll()
    assert not agent.trust.updater.is_begun()


def test_a_device_that_was_off_for_a_year_catches_up(
    agent: Agent, keys: FileKeyStore, tmp_path: Path
) -> None:
    then, now = timezone.now() - timedelta(days=400), timezone.now()
    trust.newest_root(now=then)
    trust_renewal.renew_online(now=then)
    agent.enroll()
    agent.trust.refresh((), now=then)
    with pytest.raises(TrustExpiredError):
        agent.trust.updater.load(now=now)
    offline, file = tmp_path / "keys" / "offline", tmp_path / "next.json"
    for _ in range(6):
        call_command("trust", "prepare-root", str(file))
        call_command("trust", "sign", str(file), str(offline / "root.key"))
        call_command("trust", "publish", str(file))
    publish_targets(offline, file)
    agent.trust.refresh((), now=now)
    assert agent.trust.trusted is not None
    assert agent.trust.trusted.root.version == 7
    assert agent.trust.read_keys((), now=now)[0]


def test_a_pinned_root_is_not_replaced_by_the_one_that_enrolment_offers(
    live_server: Any, tmp_path: Path, offline: Path
) -> None:
    pinned = tmp_path / "pinned.json"
    row = trust_renewal.latest("root")
    assert row is not None
    pinned.write_bytes(bytes(row.body))
    agent = Agent(
        Config(
            device_id="edge-002",
            server_url=live_server.url,
            home=tmp_path / "home-2",
            join_token=make_join_token(is_auto_accept=True),
            trust_root_file=str(pinned),
        )
    )
    stranger = {"signed": {"_type": "root"}, "signatures": []}
    agent.trust.begin(stranger, now=datetime.now(UTC))
    assert agent.enroll() == "accepted"
    agent.sync()
    assert agent.trust.trusted is not None
    agent.close()
