"""What goes and what stays."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ingest.models import InboxBatch
from tests.factories.ingest import make_device, make_release

pytestmark = pytest.mark.django_db


@pytest.fixture
def batches():
    device = make_device(variant=make_release())
    now = timezone.now()
    for name, days, state in (
        ("old", 100, "done"),
        ("waiting", 100, "pending"),
        ("new", 1, "done"),
    ):
        InboxBatch.objects.create(
            device=device,
            batch_id=name,
            received_at=now - timedelta(days=days),
            payload=b"",
            accepted=1,
            state=state,
        )


def names():
    return set(InboxBatch.objects.values_list("batch_id", flat=True))


def test_old_batches_go_and_those_not_counted_stay(batches):
    call_command("prune_ingest", days=90, stdout=StringIO())
    assert names() == {"waiting", "new"}


def test_a_dry_run_removes_nothing(batches):
    out = StringIO()
    call_command("prune_ingest", "--dry-run", stdout=out)
    assert "inbox: 1 rows would go" in out.getvalue() and len(names()) == 3


def test_a_week_is_always_kept(batches):
    with pytest.raises(CommandError):
        call_command("prune_ingest", days=3)
