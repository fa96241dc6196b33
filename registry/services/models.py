"""Models: made once, named for good."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from registry.exceptions import ConflictError, InvalidFieldError
from registry.models import Model, Task
from registry.services.audit import record_event


@transaction.atomic
def create_model(
    *,
    slug: str,
    actor: str,
    title: str = "",
    task: str = Task.CLASSIFICATION,
    labels: list[str] | None = None,
    owner: Any = None,
    tags: list[str] | None = None,
) -> Model:
    """The new model.

    Raises:
        InvalidFieldError: a field breaks its rule. ConflictError: the slug is taken.
    """
    labels = list(labels or [])
    if not all(isinstance(label, str) and label for label in labels):
        raise InvalidFieldError("labels is a list of texts", {"labels": labels})
    if len(set(labels)) != len(labels):
        raise InvalidFieldError("A label appears twice", {"labels": labels})
    model = Model(
        slug=slug, title=title or slug, task=task, labels=labels, owner=owner, tags=list(tags or [])
    )
    if Model.objects.filter(slug=slug).exists():
        raise ConflictError(f"The model {slug!r} exists already", {"model": slug})
    try:
        model.full_clean()
    except ValidationError as error:
        raise InvalidFieldError("The model has invalid fields", error.message_dict) from error
    try:
        with transaction.atomic():
            model.save(force_insert=True)
    except IntegrityError as error:
        raise ConflictError(f"The model {slug!r} exists already", {"model": slug}) from error
    record_event(
        actor=actor,
        action="model.created",
        obj=model,
        summary=f"Model {slug} was created",
        details={"task": task, "labels": labels},
    )
    return model
