"""Secrets of channels, encrypted at rest.

Fernet: AES-128-CBC and HMAC-SHA256, by the `cryptography` project. The first key encrypts; all of
them decrypt, so a key is replaced by putting the new one first and sealing again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from notifications.exceptions import NotificationError


def seal(values: dict[str, Any]) -> str:
    """The values, encrypted."""
    return _fernet().encrypt(json.dumps(values).encode()).decode()


def unseal(sealed: str) -> dict[str, Any]:
    """The values that were sealed; an empty text holds none.

    Raises:
        NotificationError: none of the keys opens it.
    """
    if not sealed:
        return {}
    try:
        return dict(json.loads(_fernet().decrypt(sealed.encode())))
    except InvalidToken as error:
        raise NotificationError(
            "The channel's secrets were encrypted with a key that AVIARY_SECRETS_KEY does not hold"
        ) from error


def _fernet() -> MultiFernet:
    # Any long random text is a key: its SHA-256 has the length that Fernet wants.
    return MultiFernet(
        [
            Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
            for key in settings.AVIARY_SECRETS_KEYS
        ]
    )
