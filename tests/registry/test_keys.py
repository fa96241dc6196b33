"""The online keys: made once, kept private, rotated without a gap."""

import base64
import stat
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from registry.exceptions import SigningUnavailableError
from registry.keys import known_keys, sign_message, trust_keys
from registry.signer.keys import FileKeyStore, KeyStoreError


@pytest.fixture
def store(home: Path) -> FileKeyStore:
    return FileKeyStore(home / "keys")


def test_keys_are_made_once_and_readable_by_the_owner_alone(home: Path) -> None:
    first = known_keys("manifest")
    assert known_keys("manifest") == first
    assert stat.S_IMODE((home / "keys" / "manifest.key").stat().st_mode) == 0o600
    assert [path.name for path in (home / "keys").iterdir()] == ["manifest.key"]


def test_roles_have_different_keys(home: Path) -> None:
    assert known_keys("manifest") != known_keys("assignment")
    assert [key["roles"] for key in trust_keys()] == [["manifest"], ["assignment"]]


def test_retired_keys_stay_trusted(home: Path) -> None:
    known_keys("manifest")
    old = SigningKey.generate()
    retired = home / "keys" / "retired"
    retired.mkdir()
    (retired / "manifest-2025.pub").write_bytes(base64.b64encode(bytes(old.verify_key)))
    manifest_keys = [key for key in trust_keys() if "manifest" in key["roles"]]
    assert len(manifest_keys) == 2


def test_there_is_no_online_key_of_another_role(home: Path) -> None:
    with pytest.raises(SigningUnavailableError, match="expected a role"):
        sign_message("root", b"{}")


def test_a_damaged_key_is_named(store: FileKeyStore, home: Path) -> None:
    store.active_key("manifest")
    (home / "keys" / "manifest.key").write_bytes(b"AAAA")
    with pytest.raises(KeyStoreError, match=r"manifest\.key has 3 bytes, expected 32"):
        store.sign("manifest", b"{}")
