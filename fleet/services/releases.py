"""How a deployment comes to another release: by a rollout, or at once by a person's act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from fleet.exceptions import InvalidFleetInputError, ReasonRequiredError
from fleet.foresight import Foresight, check_confirmed, foresee
from fleet.models import Deployment, Rollout
from fleet.rules.gate_metrics import propose_gates
from fleet.selectors import propose_stages
from fleet.services.deployments import (
    check_no_live_rollout,
    check_target,
    queue_step_deltas,
    update_deployment,
)
from fleet.services.plans import refresh_plan
from fleet.services.rollouts import create_rollout
from fleet.services.taken_back import check_reason
from fleet.services.variants import choose_variants
from registry.models import Variant, Version
from registry.services.audit import record_event
from registry.units import write_count


def propose_rollout(
    *,
    deployment_id: int,
    version: Version,
    actor: str,
    variants: Sequence[str] | None = None,
    reason: str = "",
    created_by: Any = None,
    stages: Sequence[Mapping[str, Any]] = (),
    gates: Sequence[Mapping[str, Any]] | None = None,
) -> Rollout:
    """A draft of a rollout to the version, with the proposed stages and gates where none are given.

    Nobody looks at the draft before an alias starts it, so it has what the form would propose.
    """
    return create_rollout(
        deployment_id=deployment_id,
        target_version=version,
        stages=stages or propose_stages(),
        gates=propose_gates(version.contract) if gates is None else gates,
        variants=variants,
        actor=actor,
        reason=reason,
        created_by=created_by,
    )


def roll_out_variant(
    *, deployment_id: int, variant: Variant, actor: str, reason: str = "", created_by: Any = None
) -> Rollout:
    """A draft that offers this variant beside those the deployment offers of the same version.

    A deployment at another version gets a draft to the variant's version with this variant alone.
    """
    deployment = Deployment.objects.get(pk=deployment_id)
    names = [variant.name]
    if deployment.stable_version_id == variant.version_id:
        names += list(deployment.variants.values_list("name", flat=True))
    return propose_rollout(
        deployment_id=deployment_id,
        version=variant.version,
        variants=sorted(set(names)),
        actor=actor,
        reason=reason,
        created_by=created_by,
    )


def foresee_release(
    deployment: Deployment, version: Version | None, variants: Sequence[str] | None = None
) -> Foresight:
    """What devices would be moved from and to if the deployment had this release at once."""

    def change() -> None:
        changed = Deployment.objects.get(pk=deployment.pk)
        changed.stable_version = version
        changed.save(update_fields=["stable_version"])
        changed.variants.set(choose_variants(version, variants) if version else [])

    return foresee(deployment.model_id, change)


def change_release(
    *,
    deployment_id: int,
    version: Version | None,
    actor: str,
    variants: Sequence[str] | None = None,
    is_at_once: bool = False,
    confirmed_devices: int | None = None,
    reason: str = "",
    created_by: Any = None,
) -> Rollout | None:
    """The draft of a rollout to this release; None where it was set at once, or is there already.

    Raises:
        InvalidFleetInputError: a live rollout decides, or `version` is None without
            `is_at_once`: taking a model away has no stages.
    """
    deployment = Deployment.objects.select_related("stable_version").get(pk=deployment_id)
    if version == deployment.stable_version and (
        variants is None or set(variants) == set(deployment.variants.values_list("name", flat=True))
    ):
        return None
    if is_at_once:
        set_release_at_once(
            deployment_id=deployment_id,
            version=version,
            variants=variants,
            actor=actor,
            reason=reason,
            confirmed_devices=confirmed_devices,
        )
        return None
    check_no_live_rollout(deployment)
    if version is None:
        raise InvalidFleetInputError("Taking the version away has no stages; it is done at once")
    return propose_rollout(
        deployment_id=deployment_id,
        version=version,
        variants=variants,
        actor=actor,
        reason=reason,
        created_by=created_by,
    )


@transaction.atomic
def set_release_at_once(
    *,
    deployment_id: int,
    version: Version | None,
    actor: str,
    reason: str,
    confirmed_devices: int | None,
    variants: Sequence[str] | None = None,
) -> Deployment:
    """The deployment at another version or at other variants, for all its devices at once.

    Args:
        version: None takes the model from all its devices' plans; they keep what they run.
        variants: names; None for all that may be offered now.
        confirmed_devices: how many devices the person was told would move; a change that would
            move more is refused.

    Raises:
        ReasonRequiredError: there is no reason.
        ConfirmationRequiredError: nothing was confirmed, or more devices would move by now; its
            details say how many, from what and to what.
        InvalidFleetInputError: a live rollout decides, or the version may not be deployed.
    """
    deployment = (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("model", "stable_version")
        .get(pk=deployment_id)
    )
    check_no_live_rollout(deployment)
    chosen: list[Variant] = []
    if version is not None:
        check_target(deployment, version)
        chosen = choose_variants(version, variants)
        check_reason(version, chosen, reason)
    if not reason.strip():
        raise ReasonRequiredError(
            "Changing the version of all devices at once needs a reason", {"reason": "required"}
        )
    effect = foresee_release(deployment, version, variants)
    check_confirmed(effect, confirmed_devices)
    before = deployment.stable_version
    queue_step_deltas(before, version)
    deployment.stable_version = version
    deployment.save(update_fields=["stable_version", "updated_at"])
    deployment.variants.set(chosen)
    refresh_plan(model_id=deployment.model_id)
    record_event(
        actor=actor,
        action="deployment.set_at_once",
        obj=deployment,
        summary=f"Deployment {deployment.name}: {before or 'nothing'} → {version or 'nothing'} "
        f"at once, {write_count(effect.devices, 'device')}",
        details={
            "reason": reason,
            "devices": effect.devices,
            "moves": effect.rows(),
            "variants": [variant.name for variant in chosen],
        },
    )
    return deployment


def move_deployment(
    *,
    deployment_id: int,
    actor: str,
    reason: str = "",
    confirmed_devices: int | None = None,
    **changes: Any,
) -> Deployment:
    """What `update_deployment` makes of the changes, once a person knows how many devices move.

    Another selector, priority or state can give devices to this deployment or take them from it,
    at once and without stages.

    Raises:
        ConfirmationRequiredError: devices would move, and fewer or none were confirmed; its details
            say how many, from what and to what.
        ReasonRequiredError: devices would move, and there is no reason.
        InvalidFleetInputError: what `update_deployment` refuses.
    """
    model_id = Deployment.objects.values_list("model_id", flat=True).get(pk=deployment_id)
    effect = foresee(
        model_id,
        lambda: update_deployment(
            deployment_id=deployment_id, actor=actor, reason=reason, **changes
        ),
    )
    check_confirmed(effect, confirmed_devices)
    if effect.devices and not reason.strip():
        raise ReasonRequiredError(
            f"{effect.words()} Moving devices at once needs a reason", {"reason": "required"}
        )
    return update_deployment(deployment_id=deployment_id, actor=actor, reason=reason, **changes)
