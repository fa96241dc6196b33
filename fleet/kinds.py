"""Devices counted by what the assignment decision reads of them.

Two devices of one kind are answered alike, so what a plan means to a million devices is decided
once for each kind, by the same pure rules that answer a poll. PostgreSQL counts the kinds; SQLite
gives each device as a kind of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, F, Func, IntegerField, Min, QuerySet, Value
from django.db.models.fields.json import KeyTextTransform

from fleet.models import Device
from fleet.rules.assignment import BUCKETS, DeviceFacts, bucket_of, control_start
from fleet.selection import device_facts, label_text, names_in

#: 2³² mod 10 000: the weight of the upper half of eight bytes.
_UPPER = 2**32 % BUCKETS


class Kind(NamedTuple):
    """Devices that every decision treats alike.

    Attributes:
        facts: of one of them; its labels are those that were asked for, and its id falls between
            the same cuts of each rollout's buckets as all their ids.
        devices: how many there are.
    """

    facts: DeviceFacts
    devices: int


def count_kinds(
    devices: QuerySet[Device], *, model: str, plans: Sequence[Mapping[str, Any]]
) -> Iterator[Kind]:
    """The kinds among `devices` for these plans of the model; together they are all devices.

    Args:
        plans: as `fleet.polling.plans.build_plan` makes them.
    """
    names, cuts = _what_is_read(plans)
    if connection.vendor != "postgresql":
        yield from _each(devices, model)
        return
    # Devices that a selector names by their ids are kinds of their own.
    named = sorted(_named_ids(plans))
    columns: dict[str, Any] = {f"l{i}": label_text(name) for i, name in enumerate(names)}
    columns["pin"] = KeyTextTransform(model, "pins")
    for index, (salt, edges) in enumerate(cuts.items()):
        columns[f"b{index}"] = Func(
            SqlBucket(salt), Value(edges), template="width_bucket(%(expressions)s::int[])",
            output_field=IntegerField(),
        )  # fmt: skip
    ordinary = devices.exclude(device_id__in=named) if named else devices
    rows = (
        ordinary.order_by()
        .annotate(**columns)
        .values(*columns, "capabilities", "quarantined")
        .annotate(n=Count("pk"), one=Min("device_id"))
    )
    for row in rows.iterator(chunk_size=2000):
        labels = {name: row[f"l{i}"] for i, name in enumerate(names) if row[f"l{i}"] is not None}
        facts = DeviceFacts(
            device_id=row["one"],
            labels={**labels, "device_id": row["one"]},
            capabilities=row["capabilities"],
            quarantined=frozenset(row["quarantined"]),
            pin=row["pin"],
        )
        yield Kind(facts, row["n"])
    if named:
        yield from _each(devices.filter(device_id__in=named), model)


def count_buckets(devices: QuerySet[Device], salt: str) -> list[int]:
    """How many of the devices are in each of the 10 000 buckets of a rollout."""
    counts = [0] * BUCKETS
    if connection.vendor != "postgresql":
        for device_id in devices.values_list("device_id", flat=True).iterator():
            counts[bucket_of(salt, device_id)] += 1
        return counts
    rows = devices.order_by().annotate(bucket=SqlBucket(salt)).values("bucket")
    for bucket, n in rows.annotate(n=Count("pk")).values_list("bucket", "n"):
        counts[bucket] = n
    return counts


class SqlBucket(Func):
    """`fleet.rules.assignment.bucket_of` in PostgreSQL."""

    output_field = IntegerField()

    def __init__(self, salt: str) -> None:
        super().__init__(Value(f"{salt}:"), F("device_id"))

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        salt, device = self.source_expressions
        salt_sql, params = compiler.compile(salt)
        device_sql, _ = compiler.compile(device)
        digest = f"encode(sha256(convert_to({salt_sql} || {device_sql}, 'UTF8')), 'hex')"

        def half(start: int) -> str:
            return f"('x' || substr({digest}, {start}, 8))::bit(32)::bigint"

        # Params are doubled: the digest stands there twice.
        sql = f"(({half(1)} %% {BUCKETS} * {_UPPER} + {half(9)} %% {BUCKETS}) %% {BUCKETS})::int"
        return sql, (*params, *params)


def _what_is_read(plans: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, list[int]]]:
    """Labels that the plans look at, and where each salt's buckets change what is decided."""
    names: set[str] = set()
    cuts: dict[str, set[int]] = {}
    for plan in plans:
        for deployment in plan["deployments"]:
            names |= names_in([deployment["selector"]])
            rollout = deployment["rollout"]
            if rollout is not None:
                names |= names_in(rollout["canaries"])
                edges = {rollout["exposed"], control_start(rollout["reach"])}
                cuts.setdefault(rollout["salt"], set()).update(edges)
    return sorted(names - {"device_id"}), {salt: sorted(edges) for salt, edges in cuts.items()}


def _named_ids(plans: Sequence[Mapping[str, Any]]) -> set[str]:
    found: set[str] = set()
    for plan in plans:
        for deployment in plan["deployments"]:
            found |= set(deployment["selector"].get("device_id", ()))
            for canaries in (deployment["rollout"] or {}).get("canaries", ()):
                found |= set(canaries.get("device_id", ()))
    return found


def _each(devices: QuerySet[Device], model: str) -> Iterator[Kind]:
    shown = devices.only(
        "device_id", "labels", "attributes", "capabilities", "generation", "quarantined", "pins"
    )
    for device in shown.iterator():
        yield Kind(device_facts(device, model), 1)
