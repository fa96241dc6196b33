"""E-mails, by the mail server of the settings."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage

from notifications.senders.message import Message, Outcome

MOST_RECIPIENTS = 50


def send(message: Message, recipients: Sequence[str]) -> Outcome:
    """One e-mail to all; its Message-ID is the same at each attempt."""
    if not recipients:
        return Outcome(False, problem="The channel has no recipient")
    # One line, whatever the event says: a header holds no other.
    subject = " ".join(f"[Aviary] {message.title}: {message.summary}".split())
    host = urlsplit(settings.AVIARY_PUBLIC_URL).hostname or "aviary.invalid"
    lines = [message.summary, ""]
    facts = [("Model", message.model), ("Device", message.device), ("By", message.actor)]
    lines += [f"{name}: {value}" for name, value in facts if value]
    lines.append(f"At: {message.at.isoformat(timespec='seconds')}")
    if message.link:
        lines += ["", message.link]
    mail = EmailMessage(
        subject=subject[:200],
        body="\n".join(lines),
        to=list(recipients)[:MOST_RECIPIENTS],
        headers={"Message-ID": f"<{message.uid}@{host}>", "Auto-Submitted": "auto-generated"},
    )
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as error:
        return Outcome(False, problem=f"Refused: {', '.join(error.recipients)}")
    except (OSError, smtplib.SMTPException) as error:
        words = str(error) or type(error).__name__
        return Outcome(False, problem=f"The mail server: {words[:300]}", is_down=True)
    return Outcome(True)
