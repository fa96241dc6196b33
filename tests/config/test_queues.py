"""Queues: no work waits behind work of another kind, and a broker that is away fails nothing."""

import logging

import pytest
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from config.celery import app
from config.logs import MOST_LINES, StormFilter
from ingest import tasks
from ingest.models import InboxBatch
from ingest.services import aggregation
from registry.enqueue import enqueue_after_commit
from tests.factories.ingest import make_device, make_release
from tests.ingest.test_set_aside import deliver


def queue_of(task: str) -> str:
    route = app.amqp.router.route({}, task)
    return str(getattr(route["queue"], "name", route["queue"]))


def test_rollouts_wait_behind_no_intake_no_drift_and_no_samples():
    assert queue_of("fleet.tasks.tick_rollouts") == "ticks"
    assert queue_of("ingest.tasks.push_evidence") == "ticks"
    others = {
        queue_of(task)
        for task in (
            "ingest.tasks.aggregate_inbox",
            "ingest.tasks.evaluate_drift",
            "fleet.tasks.build_calibration",
            "registry.tasks.validate_version",
            "compression.tasks.run_job",
        )
    }
    assert len(others) == 5 and "ticks" not in others


def test_every_queue_of_a_task_has_a_worker_in_the_container_file():
    from tests.platform.test_compose import SERVICES

    served = set()
    for service in SERVICES.values():
        command = service.get("command") or []
        if "-Q" in command:
            served |= set(command[command.index("-Q") + 1].split(","))
    entries = settings.CELERY_BEAT_SCHEDULE.values()
    named = {queue_of(entry["task"]) for entry in entries}
    named |= {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    assert named | {"default"} == served


@pytest.mark.django_db
def test_counting_stops_after_its_time_and_the_next_run_goes_on(monkeypatch, settings):
    device = make_device(variant=make_release())
    for number in range(6):
        deliver(device, f"b{number}")
    monkeypatch.setattr(tasks, "BATCHES_PER_TRANSACTION", 2)
    # A clock that moves by a tick with each look at it: one transaction a run.
    clock = iter(range(0, 10_000, settings.AVIARY_TICK_SECONDS))
    monkeypatch.setattr(tasks, "monotonic", lambda: next(clock))
    assert tasks.aggregate_inbox() == 2
    assert InboxBatch.objects.pending().count() == 4
    assert [tasks.aggregate_inbox(), tasks.aggregate_inbox()] == [2, 2]
    assert aggregation.aggregate_batches() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError("broker"), OSError("reset"), RuntimeError("x")])
def test_a_message_that_cannot_be_sent_undoes_nothing(error):
    device = make_device("kept")

    def send(number: int) -> None:
        raise error

    with transaction.atomic():
        type(device).objects.filter(pk=device.pk).update(agent_version="1")
        enqueue_after_commit(send, 3)
    enqueue_after_commit(send, 4)
    device.refresh_from_db()
    assert device.agent_version == "1"


def test_a_storm_of_equal_lines_is_cut_and_others_are_not():
    storms = StormFilter()

    def line(text: str) -> bool:
        return storms.filter(logging.LogRecord("a", logging.ERROR, "", 1, text, (), None))

    assert sum(line("the same") for _ in range(1000)) == MOST_LINES
    assert line("another")
