"""Messages for a Slack incoming webhook."""

from __future__ import annotations

import json

from notifications.senders.message import Message, Post

#: A section's text holds 3,000 characters.
MOST_TEXT = 2_800
_MARKS = {"info": ":information_source:", "warning": ":warning:", "critical": ":rotating_light:"}


def prepare(message: Message, url: str) -> Post:
    """The request: a line for notifications, and blocks that show it."""
    mark = ":white_check_mark:" if message.is_over else _MARKS[message.level]
    summary = _escape(message.summary[:MOST_TEXT])
    about = [f"*{name}* {_escape(value)}" for name, value in _facts(message)]
    title = f"<{message.link}|{message.title}>" if message.link else message.title
    blocks = [
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": f"{mark} *{title}*\n{summary}"},
        },
        {
            "type": "context",
            "elements": [{"type": "mrkdwn", "text": "  ·  ".join(about)}],
        },
    ]
    body = json.dumps({"text": f"{message.title}: {summary}", "blocks": blocks}).encode()
    return Post(url, body, {"Content-Type": "application/json"})


def _facts(message: Message) -> list[tuple[str, str]]:
    facts = [("model", message.model), ("device", message.device), ("by", message.actor)]
    return [(name, value) for name, value in facts if value]


def _escape(text: str) -> str:
    """The three characters that Slack gives a meaning, as entities: no text makes a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
