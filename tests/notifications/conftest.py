"""Receivers, and what is sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from notifications.models import Channel
from notifications.services.channels import save_channel, save_rule
from tests.notifications.receivers import Receiver, http_receiver


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """A server on this machine, which the settings allow to be called."""
    settings.AVIARY_ALLOWED_WEBHOOK_PRIVATE = True
    with http_receiver() as found:
        yield found


@pytest.fixture
def hook(db: None, receiver: Receiver) -> tuple[Channel, str]:
    """A webhook to the receiver that is told everything, and its secret."""
    channel, secret = save_channel(actor="ada", name="hook", kind="webhook", url=receiver.url)
    save_rule(actor="ada", name="everything", channel=channel)
    return channel, secret
