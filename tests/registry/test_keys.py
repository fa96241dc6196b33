"""The server's keys: made once, kept private, retired with care."""

import base64
import stat
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from registry.keys import signing_key, trust_keys


def test_keys_are_made_once_and_readable_by_the_owner_alone(home: Path) -> None:
    first = signing_key("manifest")
    assert bytes(signing_key("manifest")) == bytes(first)
    assert stat.S_IMODE((home / "keys" / "manifest.key").stat().st_mode) == 0o600
    assert [path.name for path in (home / "keys").iterdir()] == ["manifest.key"]


def test_roles_have_different_keys(home: Path) -> None:
    assert bytes(signing_key("manifest")) != bytes(signing_key("assignment"))
    assert [key["roles"] for key in trust_keys()] == [["manifest"], ["assignment"]]


def test_retired_keys_stay_trusted(home: Path) -> None:
    signing_key("manifest")
    old = SigningKey.generate()
    retired = home / "keys" / "retired"
    retired.mkdir()
    (retired / "manifest-2025.pub").write_bytes(base64.b64encode(bytes(old.verify_key)))
    manifest_keys = [key for key in trust_keys() if "manifest" in key["roles"]]
    assert len(manifest_keys) == 2


def test_there_is_no_key_of_another_role(home: Path) -> None:
    with pytest.raises(ValueError, match="role"):
        signing_key("root")
