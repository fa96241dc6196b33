"""One table of processes: what the container file starts is what the table says."""

import json
import re

import pytest
from django.conf import settings

from tests.platform.test_compose import ROOT, SERVICES

PROCESSES = json.loads((ROOT / "deploy/helm/aviary/processes.json").read_text(encoding="utf-8"))
STORES = {"postgres", "redis", "s3"}


def test_every_process_is_a_service_and_every_service_a_process_or_a_store():
    assert set(SERVICES) == set(PROCESSES) | STORES


@pytest.mark.parametrize("name", sorted(set(PROCESSES) - {"web", "proxy"}))
def test_the_container_file_has_the_command_of_the_table(name):
    assert SERVICES[name]["command"] == PROCESSES[name]["command"]


def test_the_image_starts_the_web_server_of_the_table():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    command = re.findall(r"^CMD (\[.*\])$", text, flags=re.MULTILINE)[-1]
    assert json.loads(command) == PROCESSES["web"]["command"]
    assert "command" not in SERVICES["web"]


def test_every_queue_has_exactly_one_process_and_no_process_another_queue():
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    routed.add(settings.CELERY_TASK_DEFAULT_QUEUE)
    worked = [queue for process in PROCESSES.values() for queue in process["queues"]]
    assert sorted(worked) == sorted(routed)
    for process in PROCESSES.values():
        if process["queues"]:
            command = process["command"]
            assert command[command.index("-Q") + 1].split(",") == process["queues"]


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_service_waits_for_what_the_table_says(name):
    assert sorted(SERVICES[name].get("depends_on", {})) == sorted(PROCESSES[name]["needs"])


def test_the_clock_and_the_keys_have_one_process_each():
    kinds = {name: process["kind"] for name, process in PROCESSES.items()}
    assert {name for name, kind in kinds.items() if kind == "singleton"} == {"beat", "signer"}
    assert {name for name, kind in kinds.items() if kind == "job"} == {"migrate"}
    for name in ("beat", "signer"):
        assert SERVICES[name].get("deploy", {}).get("replicas", 1) == 1
