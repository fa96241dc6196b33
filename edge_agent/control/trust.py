"""The keys this device believes now: read from the root of trust, renewed when it is due.

A device that knows a root believes the keys that root leads to, and no others. One that enrolled
before the server had a root goes on with the keys of its enrolment until the server introduces its
root: in an envelope signed by the manifest key *and* the assignment key that it believes.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from edge_agent.config import Config
from edge_agent.control.transport import Transport
from edge_agent.exceptions import (
    AgentError,
    AnswerError,
    ConfigurationError,
    PublishedError,
    TrustDocumentError,
)
from edge_agent.files import FileLayer, make_dirs, write_atomic
from edge_agent.releases.state import Layout
from edge_agent.releases.trust import TrustKey, parse_trust_keys, verify_envelope
from edge_agent.tuf.canonical import encode_canonical
from edge_agent.tuf.metadata import RoleKeys
from edge_agent.tuf.trusted_set import TrustedSet
from edge_agent.tuf.updater import TrustUpdater

logger = logging.getLogger(__name__)

TRUST_ROOT_TYPE = "application/vnd.aviary.trust-root.v1+json"
RENEW_AFTER = timedelta(days=1)
RETRY_AFTER_S = 60.0
DELEGATED = {"manifests": "manifest", "assignments": "assignment"}
"""Delegated role to the role that envelopes name."""


class TrustKeeper:
    def __init__(
        self,
        config: Config,
        files: FileLayer,
        layout: Layout,
        transport: Transport,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.files = files
        self.layout = layout
        self.transport = transport
        self.monotonic = monotonic
        self.updater = TrustUpdater(files, layout.trust)
        self.trusted: TrustedSet | None = None
        self._renewed_at: datetime | None = None
        self._tried_at: float | None = None

    def begin(self, offered: Any, *, now: datetime) -> None:
        """Believes the first root, at enrolment: the one of the settings, else the one offered.

        Args:
            offered: the root in the server's answer; None where the server has none.

        Raises:
            ConfigurationError: the settings name a root that is none.
            PublishedError: the offered root is not signed by its own keys.
        """
        if self.updater.is_begun():
            return
        if self.config.trust_root_file:
            try:
                data = self.config.read_trust_root()
                self._store_first(data, now=now)
            except PublishedError as error:
                raise ConfigurationError(f"[agent] trust_root_file: {error}") from error
        elif isinstance(offered, dict) and not self.config.trust_keyids:
            self._store_first(encode_canonical(offered), now=now)

    def read_keys(
        self, enrolled: tuple[TrustKey, ...], *, now: datetime
    ) -> tuple[tuple[TrustKey, ...], tuple[TrustKey, ...]]:
        """The keys believed now, and those believed for what is on this disk already.

        The second are more: a key that was replaced since still vouches for what it signed before.
        Both are the enrolment's while this device knows no root.
        """
        if not self.updater.is_begun():
            return enrolled, enrolled
        if self.trusted is None or self.trusted.targets is None:
            try:
                self.trusted = self.updater.load(now=now)
            except PublishedError as error:
                logger.warning("trust: %s: %s", error.code, error)
                return (), (*self._read_former(), *enrolled)
        current = tuple(describe_keys(self.trusted))
        return current, (*current, *self._read_former(), *enrolled)

    def is_due(self, hint: Any, *, now: datetime) -> bool:
        """True when the root of trust should be asked for.

        Args:
            hint: what an answer said of the newest versions. Nobody signed it: it can cost a call a
                minute, and nothing else.
        """
        tried = self._tried_at
        if tried is not None and self.monotonic() - tried < RETRY_AFTER_S:
            return False
        if self._renewed_at is None or not self._renewed_at <= now < self._renewed_at + RENEW_AFTER:
            return True
        if self.trusted is None or not isinstance(hint, Mapping):
            return False
        targets = self.trusted.targets
        known = {"root": self.trusted.root.version, "targets": targets.version if targets else 0}
        return any(
            type(hint.get(kind)) is int and hint[kind] > version for kind, version in known.items()
        )

    def refresh(self, enrolled: tuple[TrustKey, ...], *, now: datetime) -> bool:
        """Brings the keys up to date; False where the server has no root of trust.

        Raises:
            PublishedError: what the server published breaks a rule; what was believed stays.
            TransferError: the server could not be asked.
        """
        self._tried_at = self.monotonic()
        if not self.updater.is_begun() and not self._be_introduced(enrolled, now=now):
            self._renewed_at = now
            return False
        before = self._read_former()
        trusted = self.updater.refresh(self._fetch, now=now)
        keys = describe_keys(trusted)
        known = {key.keyid for key in before}
        if {key.keyid for key in keys} - known:
            self._write_former([*before, *keys])
        self.trusted, self._renewed_at = trusted, now
        return True

    def _be_introduced(self, enrolled: tuple[TrustKey, ...], *, now: datetime) -> bool:
        try:
            url = self.config.server_url.rstrip("/") + "/api/trust/introduction"
            envelope = self.transport.call("GET", url, headers={"Accept": "application/json"}).body
        except AnswerError as error:
            if error.status == 404:
                return False  # an older server, or one without a root
            raise
        for role in DELEGATED.values():
            payload = verify_envelope(
                envelope, keys=enrolled, payload_type=TRUST_ROOT_TYPE, role=role
            )
        self._store_first(payload, now=now)
        logger.info("the server's root of trust is believed from now on")
        return True

    def _store_first(self, data: bytes, *, now: datetime) -> None:
        make_dirs(self.files, self.layout.trust)
        self.updater.begin(data, now=now)

    def _fetch(self, name: str, limit: int) -> bytes | None:
        url = f"{self.config.server_url.rstrip('/')}/api/trust/{name}"
        return self.transport.fetch_bytes(url, limit=limit)

    def _read_former(self) -> tuple[TrustKey, ...]:
        """Every key that this device ever believed, for what is on its disk."""
        data = self.files.read(self.layout.trust / "former.json")
        try:
            return tuple(parse_trust_keys(json.loads(data))) if data else ()
        except (ValueError, TypeError, AttributeError, AgentError):
            return ()

    def _write_former(self, keys: list[TrustKey]) -> None:
        unique = {key.keyid: key.describe() for key in keys}
        data = json.dumps(list(unique.values())[-64:]).encode()
        write_atomic(self.files, self.layout.trust / "former.json", data)


def describe_keys(trusted: TrustedSet) -> list[TrustKey]:
    """The keys to which the trusted targets delegate manifests and assignments.

    Raises:
        TrustDocumentError: more than one signature is asked for, which envelopes do not have.
    """
    found: dict[bytes, set[str]] = {}
    for name, role in DELEGATED.items():
        keys: RoleKeys | None = trusted.read_role(name)
        if keys is None:
            continue
        if keys.threshold != 1:
            raise TrustDocumentError(f"{name}: expected a threshold of 1, got {keys.threshold}")
        for public_key in keys.keys.values():
            found.setdefault(public_key, set()).add(role)
    return [TrustKey.of(public_key, frozenset(roles)) for public_key, roles in found.items()]
