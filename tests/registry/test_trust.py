"""The root of trust as people outside check it: with python-tuf, over HTTP."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from tuf.api.exceptions import RepositoryError
from tuf.ngclient import Updater

from registry.exceptions import TrustMetadataError
from registry.keys import known_keys
from registry.models import AuditEvent, TrustMetadata, Variant
from registry.services import trust, trust_renewal
from registry.signer.keys import FileKeyStore
from registry.trust import metadata as tuf
from tests.factories.registry import make_version

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    """The offline keys of a root of trust with three keys, of which two must sign."""
    call_command("trust", "init", str(tmp_path / "offline"))
    return tmp_path / "offline"


def open_client(folder: Path, server: str, root: bytes) -> Updater:
    """A TUF client of somebody outside who was given `root`."""
    return Updater(
        str(folder),
        f"{server}/api/trust/",
        target_dir=str(folder),
        target_base_url=f"{server}/api/trust/targets/",
        bootstrap=root,
    )


def root_bytes() -> bytes:
    row = trust_renewal.latest("root")
    assert row is not None
    return bytes(row.body)


def test_python_tuf_checks_a_release_from_outside(
    offline: Path, live_server: Any, tmp_path: Path
) -> None:
    variant = make_version().variants.get()
    trust_renewal.renew_online(now=timezone.now())
    client = open_client(tmp_path, live_server.url, root_bytes())
    name = f"manifests/{variant.manifest_sha256}.json"
    target = client.get_targetinfo(name)
    assert target is not None
    path = client.download_target(target, str(tmp_path / "manifest.json"))
    assert Path(path).read_bytes() == base64.b64decode(variant.envelope["payload"])


def test_a_manifest_that_was_not_released_is_no_target(
    offline: Path, live_server: Any, tmp_path: Path
) -> None:
    client = open_client(tmp_path, live_server.url, root_bytes())
    assert client.get_targetinfo(f"manifests/{'0' * 64}.json") is None


def test_a_new_release_rewrites_one_bin(offline: Path) -> None:
    before = TrustMetadata.objects.count()
    make_version()
    # The bin, the snapshot and the timestamp.
    assert trust_renewal.renew_online(now=timezone.now()) == 3
    assert TrustMetadata.objects.count() == before + 3
    assert trust_renewal.renew_online(now=timezone.now()) == 0


def test_online_metadata_is_renewed_long_before_it_ends(offline: Path) -> None:
    now = timezone.now()
    assert trust_renewal.renew_online(now=now + timedelta(days=1)) == 0
    assert trust_renewal.renew_online(now=now + timedelta(days=3)) == 1
    row = trust_renewal.latest("timestamp")
    assert row is not None and row.version == 2


def test_followed_online_metadata_is_forgotten_and_offline_metadata_never(offline: Path) -> None:
    now = timezone.now()
    for days in range(-60, 0, 3):
        trust_renewal.renew_online(now=now + timedelta(days=days), is_forced=True)
    trust_renewal.renew_online(now=now, is_forced=True)
    assert TrustMetadata.objects.filter(role="timestamp").count() < 6
    assert {row.version for row in TrustMetadata.objects.filter(role="root")} == {1}
    assert trust_renewal.latest("timestamp") is not None


def test_a_root_is_replaced_by_enough_old_and_new_keys(
    offline: Path, live_server: Any, tmp_path: Path
) -> None:
    first = root_bytes()
    new, file = tmp_path / "root-4.key", tmp_path / "2.root.json"
    call_command("trust", "keygen", str(new))
    lost = tuf.decode(first).signed.roles["root"].keyids[0]
    call_command("trust", "prepare-root", str(file), "--add", f"{new}.pub", "--remove", lost)
    call_command("trust", "sign", str(file), str(offline / "root-2.key"))
    with pytest.raises(CommandError, match=r"Root 2: root was signed by 1/2"):
        call_command("trust", "publish", str(file))
    call_command("trust", "sign", str(file), str(offline / "root-3.key"))
    call_command("trust", "publish", str(file))
    client = open_client(tmp_path, live_server.url, first)
    client.refresh()
    assert json.loads((tmp_path / "root.json").read_bytes())["signed"]["version"] == 2
    assert AuditEvent.objects.filter(action="trust.root_published").count() == 2


def test_a_root_signed_by_strangers_is_refused(offline: Path, tmp_path: Path) -> None:
    file = tmp_path / "2.root.json"
    call_command("trust", "prepare-root", str(file))
    for number in (1, 2):
        call_command("trust", "keygen", str(tmp_path / f"stranger-{number}.key"))
        call_command("trust", "sign", str(file), str(tmp_path / f"stranger-{number}.key"))
    with pytest.raises(CommandError, match="0/2"):
        call_command("trust", "publish", str(file))
    assert trust_renewal.latest("root").version == 1  # type: ignore[union-attr]


def test_targets_that_would_leave_the_server_without_a_key_are_refused(
    offline: Path, tmp_path: Path, home: Path
) -> None:
    stranger = tuf.make_targets(
        2,
        delegated={"manifests": [b"\x01" * 32], "assignments": known_keys("assignment")},
        now=timezone.now(),
    )
    file = tmp_path / "targets.json"
    file.write_bytes(tuf.encode(stranger))
    call_command("trust", "sign", str(file), str(offline / "targets.key"))
    with pytest.raises(CommandError, match="do not name the manifest key"):
        call_command("trust", "publish", str(file))


def test_targets_signed_by_an_online_key_are_refused(offline: Path, home: Path) -> None:
    unsigned = tuf.make_targets(2, delegated=trust.online_delegations(), now=timezone.now())
    store = FileKeyStore(home / "keys")
    tuf.add_signature(
        unsigned, lambda message: (store.active_key("manifest"), store.sign("manifest", message))
    )
    with pytest.raises(TrustMetadataError, match="0/1"):
        trust.publish_targets(data=tuf.encode(unsigned), actor="x", now=timezone.now())


def test_a_tampered_file_is_refused_by_python_tuf(
    offline: Path, live_server: Any, tmp_path: Path
) -> None:
    row = trust_renewal.latest("timestamp")
    assert row is not None
    document = json.loads(bytes(row.body))
    document["signed"]["version"] = 99
    TrustMetadata.objects.filter(pk=row.pk).update(body=json.dumps(document).encode())
    with pytest.raises(RepositoryError):
        open_client(tmp_path, live_server.url, root_bytes()).refresh()


def test_manifests_of_a_revoked_key_are_signed_again_and_stay_the_same(
    offline: Path, home: Path
) -> None:
    variant = make_version().variants.get()
    store = FileKeyStore(home / "keys")
    store.prepare_rotation("manifest")
    store.finish_rotation("manifest", is_revoked=True)
    assert trust.sign_again(actor="ada") == 1
    assert trust.sign_again(actor="ada") == 0
    again = Variant.objects.get(pk=variant.pk)
    assert again.envelope["payload"] == variant.envelope["payload"]
    assert again.envelope["signatures"] != variant.envelope["signatures"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("timestamp.json", 200),
        ("1.root.json", 200),
        ("1.targets.json", 200),
        ("2.root.json", 404),
        ("root.json", 404),
        ("1.root", 404),
        ("-1.root.json", 404),
        ("99999999999999999999.root.json", 404),
        ("٣.root.json", 404),
        ("1.no-such-role.json", 404),
    ],
)
def test_files_have_the_names_that_tuf_gives_them(
    offline: Path, client: Any, name: str, status: int
) -> None:
    answer = client.get(f"/api/trust/{name}")
    assert answer.status_code == status
    if status == 200:
        assert "max-age" in answer["Cache-Control"]
    else:
        assert answer.json()["code"] == "not_found"


def test_without_a_root_there_is_nothing_to_be_introduced_to(client: Any) -> None:
    assert client.get("/api/trust/introduction").status_code == 404
    assert trust_renewal.renew_online(now=timezone.now()) == 0


def test_a_second_beginning_is_refused(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="already"):
        call_command("trust", "init", str(tmp_path / "again"))


def test_offline_keys_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / "root-1.key").write_text("precious")
    with pytest.raises(CommandError, match="empty folder"):
        call_command("trust", "init", str(tmp_path / "offline"))
    assert (tmp_path / "offline" / "root-1.key").read_text() == "precious"


def test_devices_that_enrol_at_once_are_given_one_root() -> None:
    def enrol(_: int) -> Any:
        try:
            return trust.newest_root(now=timezone.now())
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(enrol, range(4))
    assert first is not None
    assert others == [first] * 3
