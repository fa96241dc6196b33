"""Puts many rows into a table with one statement that says what a repetition is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Field, Model

from ingest.models import InboxBatch


def insert_new(rows: Sequence[InboxBatch]) -> dict[tuple[int, str], int]:
    """Stores the rows whose device and batch id are not there; their keys, by those two.

    One statement; a row that is just being stored elsewhere is waited for.
    """
    found = insert_rows(
        rows,
        "ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id, device_id, batch_id",
    )
    return {(device, batch): pk for pk, device, batch in found}


def insert_rows(rows: Sequence[Model], ending: str) -> list[tuple[Any, ...]]:
    """What the statement returns that inserts `rows`, all of one table, and ends with `ending`."""
    if not rows:
        return []
    quote, meta = connection.ops.quote_name, rows[0]._meta
    fields: list[Field[Any, Any]] = [f for f in meta.concrete_fields if not f.primary_key]
    names = ", ".join(quote(str(field.column)) for field in fields)
    into = f"INSERT INTO {quote(meta.db_table)} ({names})"
    values = [
        [field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows]
        for field in fields
    ]
    if connection.vendor == "postgresql":
        # One array for each column: the statement's text is short and always the same.
        arrays = ", ".join(f"%s::{_type_of(field)}[]" for field in fields)
        text, given = f"{into} SELECT * FROM unnest({arrays}) {ending}", values  # noqa: S608
    else:
        line = f"({', '.join(['%s'] * len(fields))})"
        text = f"{into} VALUES {', '.join([line] * len(rows))} {ending}"
        given = [value for row in zip(*values, strict=True) for value in row]
    with connection.cursor() as cursor:
        cursor.execute(text, given)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def _type_of(field: Field[Any, Any]) -> str:
    """The column's type without what limits it: `varchar(8)[]` would cut texts and not refuse."""
    return str(field.db_type(connection)).partition("(")[0]
