"""What goes by itself, what stays, and that nobody forgets a table that grows."""

import io
from datetime import timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db.models import DateTimeField
from django.utils import timezone

from config.retention import pruning
from config.retention.pruning import prune_tables
from config.retention.tables import TABLES, find_table
from config.tasks import prune
from ingest.models import InboxBatch, RejectedRecord, Window
from ingest.rules.windows import WindowCounts
from registry import tasks as registry_tasks
from registry.models import AuditEvent, Blob
from registry.services.blobs import store_blob
from tests.factories.ingest import make_device, make_release, make_window

pytestmark = pytest.mark.django_db

#: Tables with times that do not grow with the fleet or with time: people make their rows.
SMALL = {
    "fleet.AgentWheel", "fleet.CalibrationBuild", "fleet.Deployment", "fleet.DeviceCredential",
    "fleet.DeviceGroup",
    "fleet.JoinToken", "fleet.Plan", "fleet.RolloutStage", "fleet.ServerPresence",
    "ingest.IncidentEvent", "ingest.IncidentFinding", "notifications.Channel",
    "notifications.Rule", "registry.AliasMove", "registry.Baseline", "registry.DataSet",
    "registry.Delta", "registry.Model", "registry.TrustMetadata", "registry.Variant",
}  # fmt: skip


def test_every_table_that_grows_is_in_the_list():
    ours = ("registry", "fleet", "ingest", "compression", "notifications")
    with_times = {
        model._meta.label
        for model in apps.get_models()
        if model._meta.app_label in ours
        and any(isinstance(field, DateTimeField) for field in model._meta.fields)
    }
    listed = {table.model._meta.label for table in TABLES}
    assert with_times - listed - SMALL == set()


def test_every_table_has_a_keeper_or_a_setting_and_every_setting_a_table():
    assert {table.name for table in TABLES if not table.keeper} == set(
        django_settings.AVIARY_KEEP_DAYS
    )


def test_prune_and_garbage_run_by_themselves():
    tasks = {entry["task"] for entry in django_settings.CELERY_BEAT_SCHEDULE.values()}
    assert {prune.name, registry_tasks.collect_garbage.name} <= tasks


@pytest.fixture
def device():
    return make_device(variant=make_release())


@pytest.fixture
def batches(device):
    now = timezone.now()
    rows = [("old", 100, "done"), ("aside", 100, "failed"), ("waiting", 100, "pending"),
            ("new", 1, "done")]  # fmt: skip
    for name, days, state in rows:
        batch = InboxBatch.objects.create(
            device=device, batch_id=name, received_at=now - timedelta(days=days), payload=b"",
            accepted=1, state=state,
        )  # fmt: skip
        RejectedRecord.objects.create(batch=batch, index=0, reason="why")


def names():
    return set(InboxBatch.objects.values_list("batch_id", flat=True))


def test_old_batches_go_with_what_was_rejected_and_those_not_counted_stay(batches):
    assert prune()["inbox"] == 2
    assert names() == {"waiting", "new"} and RejectedRecord.objects.count() == 2


def test_steps_end_with_the_time_and_the_next_run_goes_on(batches, monkeypatch):
    monkeypatch.setattr(pruning, "ROWS_PER_STEP", 1)
    ticks = iter([0.0, 0.5, 1.0])  # the start, the first step, the second
    monkeypatch.setattr(pruning, "monotonic", lambda: next(ticks))
    table = find_table("inbox")
    assert prune_tables(now=timezone.now(), tables=[table], seconds=1.0) == {"inbox": 1}
    assert len(names()) == 3
    monkeypatch.undo()
    prune()
    assert names() == {"waiting", "new"}


def test_kept_for_ever_is_kept(batches, settings):
    settings.AVIARY_KEEP_DAYS = {**settings.AVIARY_KEEP_DAYS, "inbox": 0}
    assert prune() == {} and len(names()) == 4


def test_a_week_of_hours_goes_down_to_what_is_kept(device, settings):
    """The size that the table ends at, however long the fleet runs."""
    variant, now = device.installations.get().variant, timezone.now()
    settings.AVIARY_KEEP_DAYS = {**settings.AVIARY_KEEP_DAYS, "windows": 2}
    sizes = []
    for day in range(7):
        at = now + timedelta(days=day)
        for hour in range(0, 24, 6):
            make_window(device, variant, at - timedelta(hours=hour), WindowCounts(n=1))
        prune_tables(now=at)
        sizes.append(Window.objects.count())
    # A moment of two days ago is not older than two days.
    assert sizes == [4, 8, 9, 9, 9, 9, 9]


def test_unused_blobs_go_after_a_day_and_the_audit_log_says_so():
    blob = store_blob(stream=io.BytesIO(b"nobody needs this"), max_bytes=100)
    Blob.objects.update(stored_at=timezone.now() - timedelta(hours=25))
    assert registry_tasks.collect_garbage() == 1
    assert not Blob.objects.filter(pk=blob.pk).exists()
    assert AuditEvent.objects.filter(action="blobs.collected").exists()


def test_a_dry_run_removes_nothing(batches):
    out = StringIO()
    call_command("prune", "--dry-run", "--table", "inbox", "--days", "90", stdout=out)
    assert "inbox: 2 rows would go" in out.getvalue() and len(names()) == 4


@pytest.mark.parametrize(
    "arguments",
    [["--table", "inbox", "--days", "3"], ["--days", "30"], ["--table", "nothing"]],
)
def test_what_prune_does_not_do(arguments):
    with pytest.raises(CommandError):
        call_command("prune", *arguments)


def test_the_page_has_a_line_for_each_table(batches, ada):
    page = ada.get("/admin/storage/?dry_run=1").content.decode()
    lines = [part.split("</tr>")[0] for part in page.split("<tbody>")[-1].split("<tr")[1:]]
    assert len(lines) == len(TABLES)
    line = next(text for text in lines if ">inbox<" in text)
    assert "14 days" in line and ">2</td>" in line


def test_the_page_is_for_those_who_may_see_the_inbox(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("eve", is_staff=True))
    assert client.get("/admin/storage/").status_code == 403
