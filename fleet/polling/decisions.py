"""Answers many polls at once: two queries for them all, three more for what is new to them.

Only the plain case is answered here: an accepted device under its own name asks for one model. All
else is None and for the view `LatestView`, which is the reference: whatever is answered here is
what it would answer. The tests hold the two equal.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist

from fleet.authentication import bearer_token, digest_of
from fleet.models import Device, DeviceCredential
from fleet.polling.answers import make_answer
from fleet.polling.memory import PollMemory, Remembered, poll_key
from fleet.polling.poll_notes import note_poll
from fleet.rules.assignment import RENEWAL, Assignment, assign, etag_of, issue_period
from fleet.selection import device_facts
from fleet.selectors import read_plans
from fleet.services.installations import offer_releases
from registry.exceptions import AviaryError
from registry.manifest import is_sha256
from registry.services.trust import trust_hint

logger = logging.getLogger(__name__)

Headers = list[tuple[str, str]]
Plan = tuple[dict[str, Any], int]
"""A model's plan and its counter."""


class Poll(NamedTuple):
    """What came of `GET /api/models/latest`; absent headers are empty texts."""

    authorization: str
    query: str
    if_none_match: str
    running: str
    agent_version: str
    is_secure: bool


class PollAnswer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class Asked(NamedTuple):
    """A poll of the plain kind."""

    token_digest: str
    device_id: str
    model: str
    running: str
    agent_version: str


class _Decided(NamedTuple):
    device: Device
    asked: Asked
    assignment: Assignment | None
    etag: str
    issued_at: datetime
    is_unchanged: bool

    @property
    def is_offer(self) -> bool:
        return (
            self.assignment is not None
            and not self.is_unchanged
            and self.asked.running != self.assignment.manifest_sha256
        )


def decide_polls(
    polls: Sequence[Poll], memory: PollMemory, now: datetime
) -> list[PollAnswer | None]:
    """The answers in the order of the polls; None for those that the view is to answer.

    Offers are on record when this returns. Unchanged answers are kept in `memory`.
    """
    # Read before what is decided on: a change in between ends what is remembered.
    born = memory.sequence
    asked = [read_poll(poll) for poll in polls]
    devices = _find_devices([one for one in asked if one is not None])
    plans = _find_plans({one.model for one in asked if one is not None}, memory, born)
    decided = [
        _decide(poll, one, devices, plans, now) for poll, one in zip(polls, asked, strict=True)
    ]
    offers = [
        (one.device.pk, one.assignment)
        for one in decided
        if one is not None and one.is_offer and one.assignment is not None
    ]
    if offers:
        offer_releases(offers=offers, at=now)
    trust = trust_hint()
    absent: set[Hashable] = set()
    return [
        None if one is None else _answer(poll, one, memory, born, now, trust, absent)
        for poll, one in zip(polls, decided, strict=True)
    ]


def read_poll(poll: Poll) -> Asked | None:
    """The poll when it is of the plain kind."""
    token = bearer_token(poll.authorization)
    if token is None or not poll.query.isascii():
        return None
    pairs = parse_qsl(poll.query, keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs) or query.keys() != {"device_id", "model"}:
        return None
    if not (query["device_id"].isprintable() and query["model"].isprintable()):
        return None
    running = poll.running[:64]
    return Asked(
        token_digest=digest_of(token),
        device_id=query["device_id"],
        model=query["model"],
        running=running if is_sha256(running) else "",
        agent_version=poll.agent_version[:64],
    )


def _find_devices(asked: Sequence[Asked]) -> dict[str, Device]:
    """Accepted devices by the digest of their token; one query."""
    digests = {one.token_digest for one in asked}
    rows = (
        DeviceCredential.objects.filter(
            digest__in=digests, revoked_at__isnull=True, device__status=Device.Status.ACCEPTED
        )
        .select_related("device")
        .only(
            "digest", "device__device_id", "device__labels", "device__attributes",
            "device__capabilities", "device__generation", "device__quarantined", "device__pins",
        )
    )  # fmt: skip
    return {row.digest: row.device for row in rows} if digests else {}


def _find_plans(models: set[str], memory: PollMemory, born: int) -> dict[str, Plan]:
    """Plan and counter of each model that has one; one query for those not remembered."""
    plans = {model: memory.plan(model) for model in models}
    unknown = [model for model, plan in plans.items() if plan is None]
    if unknown:
        for model, plan, counter in read_plans(unknown):
            plans[model] = (plan, counter)
            memory.remember_plan(model, born, plans[model])
    return {model: plan for model, plan in plans.items() if plan is not None}


def _decide(
    poll: Poll,
    asked: Asked | None,
    devices: Mapping[str, Device],
    plans: Mapping[str, Plan],
    now: datetime,
) -> _Decided | None:
    device = None if asked is None else devices.get(asked.token_digest)
    if asked is None or device is None or device.device_id != asked.device_id:
        return None
    plan = plans.get(asked.model)
    try:
        facts = device_facts(device, asked.model)
        assignment = None if plan is None else assign(plan[0], plan[1], facts)
    except Exception:
        # One device's facts must not cost the others their answer; the view says what is wrong.
        logger.warning("%s could not be decided on among others", device, exc_info=True)
        return None
    issued_at = issue_period(device.device_id, now)
    etag = "" if assignment is None else etag_of(assignment, issued_at)
    is_unchanged = assignment is not None and matches_etag(poll.if_none_match, etag)
    if assignment is not None and not is_unchanged and not _has_address(poll):
        return None
    return _Decided(device, asked, assignment, etag, issued_at, is_unchanged)


def _has_address(poll: Poll) -> bool:
    """True when the server knows its own address, and the call need not be sent to HTTPS first."""
    return bool(settings.AVIARY_PUBLIC_URL) and (poll.is_secure or not settings.AVIARY_HTTPS)


def _answer(
    poll: Poll,
    decided: _Decided,
    memory: PollMemory,
    born: int,
    now: datetime,
    trust: dict[str, int],
    absent: set[Hashable],
) -> PollAnswer | None:
    device, asked, assignment = decided.device, decided.asked, decided.assignment
    note = (device.pk, asked.model, asked.running, asked.agent_version)
    if assignment is None:
        note_poll(*note)
        return PollAnswer(204, [], b"")
    headers = [("ETag", decided.etag), ("Cache-Control", "private, no-cache")]
    if decided.is_unchanged:
        if poll.if_none_match == decided.etag:
            until = (decided.issued_at + RENEWAL).timestamp()
            memory.remember(poll_key(*poll[:5]), Remembered(until, born, *note))
        note_poll(*note)
        return PollAnswer(304, headers, b"")
    delta_from = asked.running if decided.is_offer and device.has_delta_support else ""
    try:
        body = make_answer(
            assignment, device.device_id, now, settings.AVIARY_PUBLIC_URL,
            delta_from=delta_from, trust=trust, absent=absent,
        )  # fmt: skip
    except (AviaryError, ObjectDoesNotExist):
        logger.warning("%s could not be answered among others", device, exc_info=True)
        return None
    note_poll(*note, offered=assignment.manifest_sha256 if decided.is_offer else "")
    headers += [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
    return PollAnswer(200, headers, msgspec.json.encode(body))


def matches_etag(header: str, etag: str) -> bool:
    """If-None-Match, with weak tags compared by value (RFC 9110, 13.1.2)."""
    return any(part.strip().removeprefix("W/") == etag for part in header.split(","))
