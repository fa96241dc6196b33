"""How a model is judged, changed by people."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.forms.models import model_to_dict

from ingest.models import DriftPolicy
from registry.models import Model
from registry.services.audit import record_event


@transaction.atomic
def change_policy(*, model: Model, actor: str, **values: Any) -> DriftPolicy:
    """The model's policy with these fields changed and no other; made where there is none.

    Raises:
        ValidationError: the policy as a whole would break a rule, such as a warning past its limit.
    """
    row, _ = DriftPolicy.objects.get_or_create(model=model)
    row = DriftPolicy.objects.select_for_update().get(pk=row.pk)
    before = model_to_dict(row, fields=list(values))
    for name, value in values.items():
        setattr(row, name, value)
    # Field by field each may be right, and the row with what it had before wrong.
    row.full_clean()
    row.save()
    record_event(
        actor=actor,
        action="drift_policy.changed",
        obj=row,
        summary=f"{model.slug}: drift policy changed ({', '.join(sorted(values)) or 'nothing'})"[
            :200
        ],
        details={"before": before, "after": model_to_dict(row, fields=list(values))},
    )
    return row
