"""Two workers and two deliveries at the same moment."""

import json
import threading

import pytest
from django.db import connection, connections
from django.utils import timezone

from ingest.models import InboxBatch, Window
from ingest.services.aggregation import aggregate_batches
from ingest.services.intake import receive_batch
from tests.factories.ingest import make_device, make_record, make_release

pytestmark = pytest.mark.django_db(transaction=True)


def in_threads(work, count=4):
    problems, start = [], threading.Barrier(count)

    def run(index):
        try:
            start.wait()
            work(index)
        except Exception as error:  # noqa: BLE001 (told to the test below)
            problems.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


@pytest.fixture
def device():
    if connection.vendor == "sqlite":
        pytest.skip("An in-memory SQLite has one connection; PostgreSQL runs this.")
    return make_device(variant=make_release())


def deliver(device, batch_id, **over):
    body = {"batch_id": batch_id, "records": [make_record(), make_record()], **over}
    return receive_batch(
        device=device,
        body=json.dumps(body).encode(),
        encoding="",
        received_at=timezone.now(),
    )


def test_a_batch_delivered_twice_at_once_is_stored_once(device):
    answers = []
    in_threads(lambda index: answers.append(deliver(device, "same")))
    assert len(answers) == 4 and all(answer["accepted"] == 2 for answer in answers)
    assert InboxBatch.objects.count() == 1


@pytest.mark.parametrize("turn", range(5))
def test_a_batch_and_what_replaces_it_at_once_are_stored_once(device, turn):
    def send(index):
        if index == turn % 4:
            deliver(device, "whole")
        else:
            deliver(device, f"part-{index}", replaces=["whole"])

    in_threads(send)
    stored = set(InboxBatch.objects.filter(accepted__gt=0).values_list("batch_id", flat=True))
    parts = {f"part-{index}" for index in range(4) if index != turn % 4}
    assert stored in ({"whole"}, parts)


def test_many_workers_count_each_record_once(device):
    for index in range(40):
        deliver(device, f"b{index}")

    def drain(_index):
        while aggregate_batches(limit=3):
            pass

    in_threads(drain)
    while aggregate_batches():
        pass
    assert sum(Window.objects.values_list("n", flat=True)) == 80
    assert not InboxBatch.objects.pending().exists()
