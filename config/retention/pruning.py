"""Removes old rows in small steps, for a bounded time."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from time import monotonic

from config.retention.tables import TABLES, GrowingTable

logger = logging.getLogger(__name__)
ROWS_PER_STEP = 1_000


def prune_tables(
    *,
    now: datetime,
    tables: Iterable[GrowingTable] = TABLES,
    days: int | None = None,
    seconds: float | None = None,
) -> dict[str, int]:
    """Table to the rows that were removed.

    Each step is a short transaction of its own. Where time runs out, the next run goes on.

    Args:
        days: in place of each table's own setting.
        seconds: after which no further step begins; None for as long as it takes.
    """
    ends_at = None if seconds is None else monotonic() + seconds
    removed: dict[str, int] = {}
    for table in tables:
        count = 0
        while ends_at is None or monotonic() < ends_at:
            step = _prune_step(table, now, days)
            count += step
            if step < ROWS_PER_STEP:
                break
        if count:
            removed[table.name] = count
            logger.info("removed %d rows of %s", count, table.name)
    return removed


def _prune_step(table: GrowingTable, now: datetime, days: int | None) -> int:
    rows = table.stale(now, days)
    if rows.query.is_empty():
        return 0
    keys = list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS_PER_STEP])
    if keys:
        table.model._default_manager.filter(pk__in=keys).delete()
    return len(keys)
