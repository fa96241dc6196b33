"""How the server gets signatures: from the signing service, or in this process while embedded.

`AVIARY_SIGNER` names the service's socket. Without it the keys lie in `AVIARY_KEYS_DIR` and this
process reads them, which `check --deploy` refuses.
"""

import base64
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from registry.exceptions import SigningUnavailableError
from registry.signer.client import SignerRefusedError, SignerUnavailableError, SocketSigner
from registry.signer.keys import FileKeyStore, KeyStoreError
from registry.signer.policy import RefusedError, check_message
from registry.signing import ALGORITHM, key_id, sign_envelope

DEVICE_ROLES = ("manifest", "assignment")


class Signer(Protocol):
    """What signs for an online role."""

    def sign(self, role: str, message: bytes) -> tuple[bytes, bytes]:
        """The public key that signed, and the signature."""
        ...

    def known_keys(self, role: str) -> list[bytes]:
        """The public keys of `role`, the active one first."""
        ...


class EmbeddedSigner:
    """Signs in this process, under the same policy as the service."""

    def __init__(self, folder: Path) -> None:
        self._store = FileKeyStore(folder)

    def sign(self, role: str, message: bytes) -> tuple[bytes, bytes]:
        check_message(role, message, now=timezone.now())
        return self._store.active_key(role), self._store.sign(role, message)

    def known_keys(self, role: str) -> list[bytes]:
        return self._store.known_keys(role)


def sign_message(role: str, message: bytes) -> tuple[bytes, bytes]:
    """The public key and its signature over `message`, by the online key of `role`.

    Raises:
        SigningUnavailableError: the signing service does not answer, or refuses.
    """
    try:
        return _signer().sign(role, message)
    except (SignerUnavailableError, SignerRefusedError, RefusedError) as error:
        raise SigningUnavailableError(str(error)) from error
    except KeyStoreError as error:
        raise ImproperlyConfigured(str(error)) from error


def sign_document(role: str, payload: bytes, payload_type: str) -> dict[str, Any]:
    """The envelope of a payload, signed by the online key of `role`."""
    return sign_envelope(payload, payload_type, partial(sign_message, role))


def known_keys(role: str) -> list[bytes]:
    """The public keys of an online role: the active one first, then the next and retired ones."""
    try:
        return _signer().known_keys(role)
    except SignerUnavailableError as error:
        raise SigningUnavailableError(str(error)) from error
    except KeyStoreError as error:
        raise ImproperlyConfigured(str(error)) from error


def trust_keys() -> list[dict[str, Any]]:
    """What a device that knows no root is told to trust: the online keys, by role."""
    found: dict[str, dict[str, Any]] = {}
    for role in DEVICE_ROLES:
        for public in known_keys(role):
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


def _signer() -> Signer:
    return _make_signer(settings.AVIARY_SIGNER, str(settings.AVIARY_KEYS_DIR))


@lru_cache(maxsize=16)
def _make_signer(socket: str, folder: str) -> Signer:
    return SocketSigner(Path(socket)) if socket else EmbeddedSigner(Path(folder))
