"""Puts rows into the inbox, each unless it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Field

from ingest.models import InboxBatch

_FIELDS: list[Field[Any, Any]] = [
    field for field in InboxBatch._meta.concrete_fields if not field.primary_key
]


def insert_new(rows: Sequence[InboxBatch]) -> dict[tuple[int, str], int]:
    """Stores the rows whose device and batch id are not there; their keys, by those two.

    One statement; a row that is just being stored elsewhere is waited for.
    """
    quote = connection.ops.quote_name
    names = ", ".join(quote(str(field.column)) for field in _FIELDS)
    into = f"INSERT INTO {quote(InboxBatch._meta.db_table)} ({names})"
    unless = "ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id, device_id, batch_id"
    values = [
        [field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows]
        for field in _FIELDS
    ]
    if connection.vendor == "postgresql":
        # One array for each column: the statement's text is short and always the same.
        arrays = ", ".join(f"%s::{_type_of(field)}[]" for field in _FIELDS)
        text, given = f"{into} SELECT * FROM unnest({arrays}) {unless}", values  # noqa: S608
    else:
        line = f"({', '.join(['%s'] * len(_FIELDS))})"
        text = f"{into} VALUES {', '.join([line] * len(rows))} {unless}"
        given = [value for row in zip(*values, strict=True) for value in row]
    with connection.cursor() as cursor:
        cursor.execute(text, given)
        return {(device, batch): pk for pk, device, batch in cursor.fetchall()}


def _type_of(field: Field[Any, Any]) -> str:
    """The column's type without what limits it: `varchar(8)[]` would cut texts and not refuse."""
    return str(field.db_type(connection)).partition("(")[0]
