"""Removes what is older than anybody needs."""

from datetime import datetime

from fleet.models import Telemetry
from ingest.models import DriftEvaluation, InboxBatch, Window

ROWS_PER_STEP = 500


def prune_before(*, moment: datetime, is_dry_run: bool = False) -> dict[str, int]:
    """Table to the number of rows older than `moment` that were removed (or would be).

    Batches not counted yet are never removed. Small steps keep locks short.
    """
    stale = {
        "inbox": InboxBatch.objects.filter(
            received_at__lt=moment, state__in=[InboxBatch.State.DONE, InboxBatch.State.FAILED]
        ),
        "windows": Window.objects.filter(start__lt=moment),
        "telemetry": Telemetry.objects.filter(received_at__lt=moment),
        "evaluations": DriftEvaluation.objects.filter(period_end__lt=moment),
    }
    removed = {}
    for name, rows in stale.items():
        if is_dry_run:
            removed[name] = rows.count()
            continue
        total = 0
        while ids := list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS_PER_STEP]):
            rows.model._default_manager.filter(pk__in=ids).delete()
            total += len(ids)
        removed[name] = total
    return removed
