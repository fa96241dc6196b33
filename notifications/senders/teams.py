"""Messages for a Microsoft Teams workflow: an Adaptive Card in the envelope it expects."""

from __future__ import annotations

import json
from typing import Any

from notifications.senders.message import Message, Post

#: Teams takes messages of about 28 KB.
MOST_TEXT = 8_000
_COLOURS = {"info": "default", "warning": "warning", "critical": "attention"}


def prepare(message: Message, url: str) -> Post:
    """The request."""
    colour = "good" if message.is_over else _COLOURS[message.level]
    facts = [
        ("Model", message.model),
        ("Device", message.device),
        ("By", message.actor),
        ("At", message.at.isoformat(timespec="seconds")),
    ]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {
                "type": "TextBlock",
                "text": message.title,
                "weight": "bolder",
                "size": "medium",
                "color": colour,
                "wrap": True,
            },
            # A run takes its text as it is; a text block would read Markdown in it.
            {
                "type": "RichTextBlock",
                "inlines": [{"type": "TextRun", "text": message.summary[:MOST_TEXT]}],
            },
            {
                "type": "FactSet",
                "facts": [{"title": name, "value": value} for name, value in facts if value],
            },
        ],
    }
    if message.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": message.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    body = json.dumps({"type": "message", "attachments": [attachment]}).encode()
    return Post(url, body, {"Content-Type": "application/json"})
