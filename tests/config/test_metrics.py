"""What Prometheus, load balancers and the log are told."""

import json
import logging
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from config import background
from config.logs import JsonFormatter, request_id, take_request_id
from config.metrics_fleet import FAMILIES, measure_fleet
from config.overview import things_to_do
from config.tasks import note_tick
from ingest.models import InboxBatch
from tests.factories.fleet import make_rollout
from tests.factories.ingest import make_device, make_release

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "deploy" / "observability"


@pytest.fixture
def token(settings):
    settings.AVIARY_METRICS_TOKEN = "prom-secret"
    return {"Authorization": "Bearer prom-secret"}


def read(headers):
    text = Client().get("/metrics", headers=headers).content.decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def make_batch(device, minutes, **over):
    return InboxBatch.objects.create(
        device=device, batch_id=str(minutes), payload=b"", accepted=1,
        received_at=timezone.now() - timedelta(minutes=minutes), **over,
    )  # fmt: skip


def test_without_a_token_set_there_are_no_metrics_and_with_one_only_for_those_who_bring_it(
    settings, token
):
    for headers, status in ((token, 200), ({}, 401), ({"Authorization": "Bearer x"}, 401)):
        assert Client().get("/metrics", headers=headers).status_code == status
    settings.AVIARY_METRICS_TOKEN = ""
    assert Client().get("/metrics", headers=token).status_code == 404


def test_what_the_stores_say_is_told(token):
    device = make_device(variant=make_release())
    make_batch(device, 7)
    make_batch(device, 9, state="done")
    note_tick()
    told = read(token)
    assert told["aviary_inbox_pending",] == 1
    assert 7 * 60 <= told["aviary_inbox_oldest_seconds",] < 8 * 60
    assert told["aviary_devices", ("status", "accepted")] == 1
    assert 0 <= told["aviary_clock_seconds",] < 60


def test_every_family_is_told_and_nothing_else():
    assert set(measure_fleet(timezone.now())) == set(FAMILIES)


def test_it_costs_the_same_in_a_larger_fleet(token):
    variant = make_release()
    costs = []
    for number in range(2):
        for index in range(1 + 9 * number):
            make_batch(make_device(f"d{number}.{index}", variant), index + 100 * number)
        with CaptureQueriesContext(connection) as queries:
            measure_fleet(timezone.now())
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 16
    cache.clear()
    read(token)
    with CaptureQueriesContext(connection) as queries:
        read(token)
    assert len(queries) == 0


def test_live_rollouts_are_told_with_their_stage(token):
    rollout = make_rollout(state="running")
    told = read(token)
    assert told["aviary_rollouts_live",] == 1
    (labels,) = [dict(key[1:]) for key in told if key[0] == "aviary_rollout_stage"]
    assert labels["rollout"] == str(rollout.pk)


def exported():
    """Every name that is told anywhere."""
    from config import metrics

    names = set(FAMILIES)
    for value in vars(metrics).values():
        for family in getattr(value, "describe", list)() if hasattr(value, "_name") else []:
            names.add(family.name)
    return names


def names_in(expression):
    found = re.findall(r"\baviary_\w+", expression)
    return {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in found}


def test_the_dashboard_asks_for_what_is_told():
    board = json.loads((OBSERVABILITY / "grafana-dashboard.json").read_text())
    asked = {
        name for panel in board["panels"] for target in panel["targets"]
        for name in names_in(target["expr"])
    }  # fmt: skip
    assert asked and asked <= exported()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_alert_rules_are_about_what_is_told():
    rules = [
        rule for group in yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]  # fmt: skip
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert names_in(rule["expr"]) and names_in(rule["expr"]) <= exported(), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+m", rule.get("for", "1m")) and rule["annotations"]["summary"]
        for left, right in ("()", "{}", "[]"):
            assert rule["expr"].count(left) == rule["expr"].count(right)


def test_processes_of_one_service_tell_of_each_other(tmp_path):
    count = (
        "from config.metrics import POLLS, render\n"
        "POLLS.labels(304).inc(3)\nprint(b''.join(render()).decode())"
    )
    told = ""
    for _ in range(2):
        told = subprocess.run(
            [sys.executable, "-c", count], cwd=ROOT, check=True, capture_output=True, text=True,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        ).stdout  # fmt: skip
    assert 'aviary_polls_total{status="304"} 6.0' in told


def ready(query=""):
    answer = Client().get(f"/readyz{query}")
    return answer.status_code, answer.json()


def test_ready_knows_a_stopped_clock_and_a_stuck_inbox(monkeypatch):
    note_tick()
    assert ready()[1]["status"] == "ok"
    make_batch(make_device(variant=make_release()), 6)
    status, body = ready()
    assert (status, body["status"], body["background"]["inbox"]) == (200, "degraded", "stuck")
    assert ready("?strict=1")[0] == 503
    assert any("wait for 6 min" in item["text"] for item in things_to_do())
    InboxBatch.objects.all().delete()
    later = background.time.time() - 3600
    monkeypatch.setattr(background.time, "time", lambda: later)
    note_tick()
    monkeypatch.undo()
    status, body = ready()
    assert (status, body["background"]) == (200, {"clock": "dead", "inbox": "ok"})


def test_a_batch_that_failed_and_waits_on_purpose_is_no_stuck_inbox():
    note_tick()
    make_batch(make_device(variant=make_release()), 60, attempts=2)
    assert ready()[1]["status"] == "ok"


def test_ready_knows_a_database_that_takes_no_writes():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no such state; PostgreSQL runs this.")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only = on")
    status, body = ready()
    assert status == 503 and body["checks"]["database_writable"] is False
    assert body["checks"]["database"] is True


def test_each_answer_has_a_request_id_and_a_proxys_own_is_kept():
    assert re.fullmatch(r"[0-9a-f]{16}", Client().get("/healthz").headers["X-Request-ID"])
    kept = Client().get("/healthz", headers={"X-Request-ID": "abc-1"})
    assert kept.headers["X-Request-ID"] == "abc-1"
    hostile = Client().get("/healthz", headers={"X-Request-ID": 'a" b'})
    assert hostile.headers["X-Request-ID"] != 'a" b'


def test_a_line_of_the_log_is_one_json_object():
    mark = request_id.set("")
    try:
        take_request_id("abc")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            record = logging.LogRecord(
                "a.b", logging.ERROR, __file__, 1, "it %s", ("broke\n",), sys.exc_info()
            )
        line = JsonFormatter().format(record)
    finally:
        request_id.reset(mark)
    assert "\n" not in line
    row = json.loads(line)
    assert (row["level"], row["logger"], row["message"]) == ("ERROR", "a.b", "it broke\n")
    assert row["request_id"] == "abc" and "ValueError: two" in row["trace"]


def test_a_folder_of_a_killed_service_goes_and_that_of_a_running_one_stays(tmp_path):
    share = (
        "import os, sys\nfrom config.metrics_folder import FOLDER, share_folder\nshare_folder()\n"
        "print(os.environ[FOLDER], flush=True)\nif 'die' in sys.argv: os._exit(9)\n"
        "sys.stdin.read()"
    )
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PROMETHEUS")},
        "AVIARY_HOME": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings",
    }  # fmt: skip

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-c", share, *arguments], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    killed = start("die")
    left = Path(killed.communicate()[0].strip())
    assert left.is_dir()
    running = start()
    kept = Path(running.stdout.readline().strip())
    other = start()
    other.communicate()
    assert not left.exists() and kept.is_dir()
    running.communicate()
    assert not kept.exists()
