"""Routing and delivery; a lost message of the broker costs one tick and no event."""

from celery import shared_task
from django.utils import timezone

from notifications.services import delivering, outbox, routing


@shared_task(soft_time_limit=60, time_limit=90)
def route_events() -> int:
    """Asks the rules about all that is new, and has the channels served that are due."""
    total = 0
    touched: set[int] = set()
    while True:
        routed, channels = routing.route_waiting(now=timezone.now())
        total += routed
        touched |= channels
        if routed < routing.ROUTED_AT_ONCE:
            break
    for channel_id in sorted(touched | set(delivering.channels_to_serve(now=timezone.now()))):
        deliver.delay(channel_id)
    return total


@shared_task(soft_time_limit=150, time_limit=170)
def deliver(channel_id: int) -> int:
    """Sends what waits for one channel; the next tick goes on."""
    return delivering.deliver_waiting(channel_id=channel_id, now=timezone.now())


@shared_task(soft_time_limit=60, time_limit=90)
def prune_events() -> int:
    """Removes what is past its days."""
    return outbox.prune_events()
