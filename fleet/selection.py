"""Which devices a selector takes, in the database.

The pure rule is `fleet.rules.assignment.matches`; the tests hold these conditions equal to it.
PostgreSQL looks each label's value up in an index; SQLite reads the labels of each device.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection
from django.db.models import BooleanField, F, Func, Q, QuerySet, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, In

from fleet.exceptions import InvalidFleetInputError
from fleet.models import Deployment, Device
from fleet.rules.assignment import DeviceFacts

#: Beyond so many allowed values one comparison with them all costs less than a look-up for each.
MOST_LOOKUPS = 50
#: Stands for a label that a device does not have.
_ABSENT = "\x01absent\x01"


def matching(selector: Mapping[str, Sequence[str]]) -> Q:
    """The condition that every label of the selector has one of its allowed values."""
    found = Q()
    for name, allowed in selector.items():
        found &= _label_is(name, list(allowed))
    return found


def deployment_devices(deployment: Deployment) -> QuerySet[Device]:
    """Accepted devices whose release of the model this deployment decides.

    Devices that an active deployment of higher priority takes, or a newer one of the same, are not
    among them.
    """
    if deployment.state != Deployment.State.ACTIVE:
        return Device.objects.none()
    stronger = Deployment.objects.filter(
        Q(priority__gt=deployment.priority)
        | Q(priority=deployment.priority, pk__gt=deployment.pk or 2**62),
        model_id=deployment.model_id,
        state=Deployment.State.ACTIVE,
    )
    devices = accepted_devices().filter(matching(deployment.selector))
    for selector in stronger.values_list("selector", flat=True):
        devices = devices.exclude(matching(selector)) if selector else devices.none()
    return devices


def parse_label_filter(text: str) -> dict[str, list[str]]:
    """The selector of `name=value,name=value`; a name that comes twice allows both values.

    Raises:
        InvalidFleetInputError: a part without a name or without `=`.
    """
    selector: dict[str, list[str]] = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise InvalidFleetInputError(
                f"label: expected name=value, such as site=lyon; got {part[:80]!r}"
            )
        selector.setdefault(name.strip(), []).append(value)
    return selector


def accepted_devices() -> QuerySet[Device]:
    """Devices that may be assigned anything, in no order."""
    return Device.objects.filter(status=Device.Status.ACCEPTED).order_by()


def device_facts(device: Device, model: str) -> DeviceFacts:
    """What the assignment decision may know of a device."""
    return DeviceFacts(
        device_id=device.device_id,
        labels=device.selectable,
        capabilities=device.capabilities,
        generation=device.generation,
        quarantined=frozenset(device.quarantined),
        pin=device.pins.get(model),
    )


def label_text(name: str) -> Any:
    """The value of a label as text; NULL where a device has none."""
    return F("device_id") if name == "device_id" else KeyTextTransform(name, "effective_labels")


def having_value(value: str) -> Any:
    """The condition that some label has exactly this value."""
    return _HasValue(value)


def _label_is(name: str, allowed: list[str]) -> Q:
    if name == "device_id":
        return Q(device_id__in=allowed)
    if not allowed:
        return Q(pk__in=[])
    if connection.vendor == "postgresql" and len(allowed) <= MOST_LOOKUPS:
        return reduce(or_, (Q(effective_labels__contains={name: value}) for value in allowed))
    text = Coalesce(label_text(name), Value(_ABSENT), output_field=TextField())
    return Q(In(text, allowed)) if len(allowed) > 1 else Q(Exact(text, allowed[0]))


class _HasValue(Func):
    """`effective_labels` has a member with this value."""

    output_field = BooleanField()
    conditional = True

    def __init__(self, value: str) -> None:
        super().__init__(F("effective_labels"), Value(value))
        self.value = value

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        labels = self.source_expressions[0]
        path = Value(f"$.* ? (@ == {json.dumps(self.value)})")
        sql, params = compiler.compile(labels)
        path_sql, path_params = compiler.compile(path)
        return f"({sql} @? {path_sql}::jsonpath)", (*params, *path_params)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        labels, value = self.source_expressions
        sql, params = compiler.compile(labels)
        value_sql, value_params = compiler.compile(value)
        return (
            f"EXISTS (SELECT 1 FROM json_each({sql}) AS v WHERE v.value = {value_sql})",  # noqa: S608
            (*params, *value_params),
        )


def names_in(selectors: Iterable[Mapping[str, Any]]) -> set[str]:
    """Every label that these selectors look at."""
    return {name for selector in selectors for name in selector}
