"""The server's signing keys, in `AVIARY_KEYS_DIR`.

`<role>.key` holds the base64 of a 32-byte Ed25519 seed (mode 0600) and is made at first use.
`retired/<role>-*.pub` hold base64 public keys that devices go on trusting after a rotation.
"""

import base64
import os
import secrets
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from nacl.signing import SigningKey

from registry.signing import ALGORITHM, key_id

ROLES = ("manifest", "assignment")


def signing_key(role: str) -> SigningKey:
    """The key that signs documents of `role`: `manifest` or `assignment`."""
    if role not in ROLES:
        raise ValueError(f"role is one of {ROLES}; got {role!r}")
    return _load_key(str(settings.AVIARY_KEYS_DIR), role)


def trust_keys() -> list[dict[str, Any]]:
    """What a device is told to trust: the keys in use and the retired ones, by role."""
    found: dict[str, dict[str, Any]] = {}
    retired = Path(settings.AVIARY_KEYS_DIR) / "retired"
    for role in ROLES:
        publics = [bytes(signing_key(role).verify_key)]
        for path in sorted(retired.glob(f"{role}-*.pub")):
            publics.append(_read_key(path))
        for public in publics:
            entry = found.setdefault(
                key_id(public),
                {
                    "keyid": key_id(public),
                    "algorithm": ALGORITHM,
                    "public_key": base64.b64encode(public).decode("ascii"),
                    "roles": [],
                },
            )
            if role not in entry["roles"]:
                entry["roles"].append(role)
    return list(found.values())


@lru_cache(maxsize=16)
def _load_key(folder: str, role: str) -> SigningKey:
    path = Path(folder) / f"{role}.key"
    if not path.exists():
        _create_key(path)
    return SigningKey(_read_key(path))


def _create_key(path: Path) -> None:
    """Writes a new seed beside the path and links it there: two starters end with one key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(base64.b64encode(bytes(SigningKey.generate())) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        with suppress(FileExistsError):
            os.link(staged, path)
    finally:
        staged.unlink()


def _read_key(path: Path) -> bytes:
    try:
        raw = base64.b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(f"The key {path} cannot be read: {error}") from error
    if len(raw) != 32:
        raise ImproperlyConfigured(f"The key {path} has {len(raw)} bytes, expected 32")
    return raw
