"""Whether a call brings a credential that opens something, asked before its body is read."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from knox.crypto import hash_token
from knox.models import AuthToken

from config.front.routes import Who
from fleet.authentication import bearer_token, digest_of
from fleet.models import Device, DeviceCredential

REMEMBERED = 4096
REMEMBERED_SECONDS = 10.0


class _Remembered:
    """Digests of credentials that were good a moment ago."""

    def __init__(self) -> None:
        self._good: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def holds(self, key: str) -> bool:
        return self._good.get(key, 0.0) > time.monotonic()

    def add(self, key: str) -> None:
        with self._lock:
            self._good[key] = time.monotonic() + REMEMBERED_SECONDS
            while len(self._good) > REMEMBERED:
                self._good.popitem(last=False)


_remembered = _Remembered()


def is_known(who: Who, authorization: str, cookie: str) -> bool:
    """True when the call may bring a long body; its view authenticates it again, in full."""
    if who is Who.ANYBODY:
        return True
    key = hashlib.sha256(f"{who}\0{authorization}\0{cookie}".encode("utf-8", "replace")).hexdigest()
    if _remembered.holds(key):
        return True
    found = _is_device(authorization) if who is Who.DEVICE else _is_person(authorization, cookie)
    if found:
        _remembered.add(key)
    return found


def _is_device(authorization: str) -> bool:
    token = bearer_token(authorization)
    return token is not None and (
        DeviceCredential.objects.filter(
            digest=digest_of(token),
            revoked_at__isnull=True,
            device__status=Device.Status.ACCEPTED,
        ).exists()
    )


def _is_person(authorization: str, cookie: str) -> bool:
    scheme, _, secret = authorization.partition(" ")
    if scheme == "Token" and secret:
        return _is_token(secret.strip())
    return _is_session(cookie)


def _is_token(secret: str) -> bool:
    try:
        digest = hash_token(secret)
    except (TypeError, ValueError):
        return False
    return AuthToken.objects.filter(digest=digest, user__is_active=True).exists()


def _is_session(cookie: str) -> bool:
    try:
        morsel = SimpleCookie(cookie).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return False
    if morsel is None:
        return False
    engine: Any = import_module(settings.SESSION_ENGINE)
    user = engine.SessionStore(session_key=morsel.value).get(SESSION_KEY)
    users = get_user_model().objects
    return user is not None and users.filter(pk=user, is_active=True).exists()
