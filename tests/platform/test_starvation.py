"""Real workers on real queues: a bad canary is stopped though everything else stands still."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import yaml
from django.db import connection
from kombu import Connection

from config.celery import app
from fleet.models import Rollout
from fleet.services.rollouts import start_rollout
from ingest.models import InboxBatch
from servers.patience import wait_for
from servers.processes import ManagedProcess
from tests.databases import ROOT, address_of
from tests.factories.fleet import make_client, make_deployment, make_rollout
from tests.factories.ingest import make_device, make_release
from tests.ingest.test_set_aside import deliver
from tests.live import REDIS_DATABASES

COMMANDS = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
SLOTS = 2


def broker_url() -> str:
    parts = urlsplit(os.environ["REDIS_URL"])
    return urlunsplit(parts._replace(path=f"/{REDIS_DATABASES['starvation']}"))


def database_url() -> str:
    return address_of(os.environ["DATABASE_URL"], str(connection.settings_dict["NAME"]))


@contextmanager
def worker(home: Path, service: str) -> Iterator[ManagedProcess]:
    """A worker on the queues that the container file gives to the service."""
    given = COMMANDS[service]["command"]
    queues = given[given.index("-Q") + 1]
    environment = {
        **os.environ,
        "AVIARY_HOME": str(home / service),
        "DATABASE_URL": database_url(),
        "REDIS_URL": broker_url(),
    }
    process = ManagedProcess(
        service,
        [
            sys.executable, "-m", "celery", "-A", "config", "worker", "-P", "threads",
            "-c", str(SLOTS), "-n", f"{service}@starvation", "-Q", queues,
            "--without-gossip", "--without-mingle", "--loglevel", "INFO",
        ],
        log_path=home / f"{service}.log",
        env=environment,
        cwd=ROOT,
        drop_root=False,
    )  # fmt: skip
    try:
        process.wait_until(lambda: "ready." in process.log_tail(50))
        yield process
    finally:
        process.stop()


def send(*tasks: str) -> None:
    """As beat does, by the routes of the settings."""
    with Connection(broker_url()) as broker:
        for task in tasks:
            app.send_task(task, connection=broker)


def is_counted() -> bool:
    """Whether nothing is left to count; sent again, as by beat, since a try may have been lost."""
    send("ingest.tasks.aggregate_inbox")
    return not InboxBatch.objects.pending().exists()


@pytest.mark.django_db(transaction=True)
def test_a_bad_canary_is_aborted_within_two_ticks_whatever_waits(tmp_path: Path) -> None:
    deployment = make_deployment()
    devices = [make_client() for _ in range(4)]
    rollout = make_rollout(deployment=deployment, max_failures=3)
    start_rollout(rollout_id=rollout.pk, actor="tester")
    reporter = make_device("reporter", variant=make_release())
    for number in range(20):
        deliver(reporter, f"batch-{number}")
    with ExitStack() as stack:
        stack.enter_context(worker(tmp_path, "worker"))
        ticks = stack.enter_context(worker(tmp_path, "ticks"))
        hold = stack.enter_context(psycopg.connect(database_url()))
        # Whoever counts waits from here on: as long as intake takes, and longer.
        hold.execute("LOCK TABLE ingest_inboxbatch IN ACCESS EXCLUSIVE MODE")
        backlog = ["ingest.tasks.aggregate_inbox"] * 40
        send(*backlog)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
        )
        name = connection.settings_dict["NAME"]
        with psycopg.connect(database_url(), autocommit=True) as watch:
            wait_for(
                lambda: (watch.execute(waiting, [name]).fetchone() or (0,))[0] >= SLOTS,
                "both slots to wait for the inbox",
            )
        for device in devices:
            answer = device.poll(deployment.model.slug).json()
            device.report(answer["assignment_id"], "failed", code="self_test_failed")
        send("fleet.tasks.tick_rollouts")
        send("fleet.tasks.tick_rollouts")
        wait_for(lambda: ticks.log_tail(200).count("tick_rollouts") >= 4, "two ticks to have run")
        assert Rollout.objects.get().state in ("aborting", "aborted", "rolled_back")
        with Connection(broker_url()) as broker:
            left = broker.default_channel.client.llen("ingest")
        assert left > 0, "the backlog had gone before the ticks"
        hold.rollback()
        wait_for(is_counted, "the backlog to be counted")
