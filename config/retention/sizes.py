"""How large each table is, without counting its rows where the database knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from config.retention.tables import TABLES, GrowingTable


@dataclass(frozen=True)
class TableSize:
    """One line of the page *Storage*.

    Attributes:
        rows: how many, an estimate of PostgreSQL's where it has made one.
        size_bytes: with indexes; None where the database does not say (SQLite).
        oldest: the age of its first row.
        stale: rows that would go now; None where that was not asked.
    """

    table: GrowingTable
    rows: int
    size_bytes: int | None
    oldest: datetime | None
    stale: int | None


def measure_tables(*, is_dry_run: bool = False) -> list[TableSize]:
    """Every growing table, the largest first.

    Args:
        is_dry_run: count what would be removed now, which reads those rows.
    """
    known = _read_sizes()
    now = timezone.now()
    found = []
    for table in TABLES:
        rows, size_bytes = known.get(table.model._meta.db_table, (-1, None))
        found.append(
            TableSize(
                table,
                # Before the first ANALYZE there is no estimate, and not much to count.
                rows if rows >= 0 else table.model._default_manager.count(),
                size_bytes,
                _oldest(table),
                table.stale(now).count() if is_dry_run else None,
            )
        )
    return sorted(found, key=lambda size: (-(size.size_bytes or 0), -size.rows))


def _read_sizes() -> dict[str, tuple[int, int | None]]:
    if connection.vendor != "postgresql":
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reltuples::bigint, pg_total_relation_size(oid) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
        return {name: (rows, size_bytes) for name, rows, size_bytes in cursor.fetchall()}


def _oldest(table: GrowingTable) -> datetime | None:
    """Of the row made first, which its key tells without reading the others."""
    row: Any = table.model._default_manager.order_by("pk").values_list(table.age, flat=True).first()
    return row if isinstance(row, datetime) else None
