"""Webhooks as the Standard Webhooks specification has them (standardwebhooks.com, 2023).

A receiver checks `webhook-signature`: HMAC-SHA256 with the channel's secret over
`webhook-id.webhook-timestamp.body`. It should refuse old timestamps, and ids it has seen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from datetime import datetime

from notifications.senders.message import Message, Post

PREFIX = "whsec_"
SECRET_BYTES = 32


def make_secret() -> str:
    """A fresh secret as the specification writes one."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def prepare(message: Message, url: str, keys: Sequence[str], now: datetime) -> Post:
    """The request, signed now with each key; two while a secret is being replaced."""
    body = json.dumps(
        {
            "type": message.kind,
            "timestamp": message.at.isoformat(),
            "data": {
                "level": message.level,
                "summary": message.summary,
                "actor": message.actor,
                "model": message.model or None,
                "device": message.device or None,
                "cause": message.cause or None,
                "is_over": message.is_over,
                "link": message.link or None,
                "details": dict(message.details),
            },
        },
        separators=(",", ":"),
    ).encode()
    timestamp = str(int(now.timestamp()))
    signatures = " ".join(sign(key, message.uid, timestamp, body) for key in keys)
    return Post(
        url,
        body,
        {
            "Content-Type": "application/json",
            "User-Agent": "Aviary-Webhook/1",
            "webhook-id": message.uid,
            "webhook-timestamp": timestamp,
            "webhook-signature": signatures,
        },
    )


def sign(secret: str, uid: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{uid}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
