"""Alerts for PagerDuty's Events API v2: triggered and resolved by the cause's key."""

from __future__ import annotations

import json
from typing import Any

from notifications.senders.message import Message, Post

#: Of accounts in the United States; https://events.eu.pagerduty.com/v2/enqueue in Europe.
DEFAULT_URL = "https://events.pagerduty.com/v2/enqueue"
MOST_SUMMARY = 1024


def prepare(message: Message, url: str, routing_key: str) -> Post:
    """The request; an event without a cause is an alert of its own."""
    alert: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "resolve" if message.is_over else "trigger",
        "dedup_key": f"aviary/{message.cause or message.uid}"[:255],
    }
    if not message.is_over:
        alert["payload"] = {
            "summary": message.summary[:MOST_SUMMARY],
            "source": message.device or message.model or "aviary",
            "severity": message.level,
            "timestamp": message.at.isoformat(),
            "component": message.model or None,
            "class": message.kind,
            "custom_details": dict(message.details),
        }
        alert["client"] = "Aviary"
        if message.link:
            alert["client_url"] = message.link
            alert["links"] = [{"href": message.link, "text": "Open in Aviary"}]
    return Post(url, json.dumps(alert).encode(), {"Content-Type": "application/json"})
