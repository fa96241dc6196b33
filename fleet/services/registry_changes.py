"""What a change in the registry does to the fleet, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import QuerySet

from fleet.exceptions import InvalidFleetInputError
from fleet.foresight import foresee
from fleet.models import Deployment, Plan, Rollout
from fleet.notices import overlap_lines
from fleet.permissions import ADD_ROLLOUT
from fleet.selectors import count_running
from fleet.services.plans import refresh_plan
from fleet.services.releases import propose_rollout
from fleet.services.rollouts import abort_rollout, start_rollout
from fleet.services.self_tests import device_results
from fleet.services.taken_back import find_taken_back
from registry.hooks import Change, Hooks, register_hooks
from registry.models import Alias, Version
from registry.states import DEPLOYABLE_STATES
from registry.units import write_count


def connect() -> None:
    """Has the registry call this module; once, when the app is ready."""
    register_hooks(
        Hooks(
            version_moved=follow_version,
            alias_moved=follow_alias,
            foresee_version=foresee_version,
            foresee_alias=foresee_alias,
            needed_to_move=needed_to_move,
            notices=describe_uses,
            marks=mark_versions,
            device_results=device_results,
        )
    )


def follow_version(version: Version, before: str, change: Change) -> None:
    """Takes a version that may no longer be deployed out of every plan and rollout, now."""
    if version.state not in DEPLOYABLE_STATES:
        # All at once and in one order, so that two people who withdraw versions cannot deadlock.
        doomed = list(
            _unfinished()
            .filter(target_version=version)
            .exclude(state=Rollout.State.ABORTING)
            .select_for_update(of=("self",))
            .order_by("pk")
        )
        for rollout in doomed:
            abort_rollout(
                rollout_id=rollout.pk,
                actor=change.actor,
                reason=f"{version} was {version.state}: {change.reason}"[:500],
            )
    if Plan.objects.filter(model_id=version.model_id).exists():
        refresh_plan(model_id=version.model_id)


def follow_alias(alias: Alias, change: Change) -> None:
    """Starts a rollout to the alias's version on every deployment that follows the alias.

    Raises:
        InvalidFleetInputError: another rollout of such a deployment is under way, or the version
            may not be deployed; the alias then stays where it is.
    """
    followers = list(
        Deployment.objects.filter(follows=alias, state=Deployment.State.ACTIVE)
        .exclude(stable_version_id=alias.version_id)
        .order_by("pk")
    )
    live = list(
        _unfinished()
        .filter(deployment__in=followers)
        .select_for_update(of=("self",))
        .order_by("pk")
    )
    for rollout in live:
        if rollout.state in (*Rollout.LIVE_STATES, Rollout.State.ABORTING):
            raise InvalidFleetInputError(
                f"{alias.name} stays where it is: {rollout} of “{rollout.deployment}”, which "
                f"follows it, is {rollout.state}. Let it finish or abort it first.",
                {"rollout": rollout.pk},
            )
    for deployment in followers:
        reason = f"{alias.name} was moved: {change.reason}" if change.reason.strip() else ""
        rollout = propose_rollout(
            deployment_id=deployment.pk,
            version=alias.version,
            actor=change.actor,
            reason=reason[:500],
        )
        start_rollout(
            rollout_id=rollout.pk,
            actor=change.actor,
            reason=reason[:500] or f"{alias.name} was moved",
        )


def needed_to_move(alias: Alias) -> set[str]:
    """Moving an alias that a deployment follows is a rollout."""
    is_followed = Deployment.objects.filter(follows=alias, state=Deployment.State.ACTIVE).exists()
    return {ADD_ROLLOUT} if is_followed else set()


def foresee_version(version: Version, to: str) -> list[str]:
    """What withdrawing the version would do to devices, deployments and rollouts."""
    if to in DEPLOYABLE_STATES:
        return []
    lines = [
        f"{rollout} of “{rollout.deployment}” to {version.version} is aborted."
        for rollout in _unfinished().filter(target_version=version)
    ]
    stable = Deployment.objects.filter(
        stable_version=version, state=Deployment.State.ACTIVE
    ).order_by("name")
    for deployment in stable:
        lines.append(
            f"Deployment “{deployment}” has it as its stable version: its devices keep what they "
            "run and are offered nothing until it has another one."
        )
    if lines:

        def change() -> None:
            Version.objects.filter(pk=version.pk).update(state=to)

        lines.append(foresee(version.model_id, change).words())
    return lines


def foresee_alias(alias: Alias) -> list[str]:
    """Which deployments would be rolled out to another version of the model."""
    return [
        f"Deployment “{deployment}” follows {alias.name}: moving it starts a rollout there, with "
        "the proposed stages."
        for deployment in Deployment.objects.filter(
            follows=alias, state=Deployment.State.ACTIVE
        ).order_by("name")
    ]


def describe_uses(version: Version) -> list[str]:
    """Where the version is in force, and where it waits."""
    lines = []
    for deployment in (
        Deployment.objects.filter(stable_version=version, state=Deployment.State.ACTIVE)
        .prefetch_related("variants")
        .order_by("name")
    ):
        names = ", ".join(variant.name for variant in deployment.variants.all())
        lines.append(f"Deployment “{deployment}”: stable version, offering {names or 'nothing'}.")
        if version.state not in DEPLOYABLE_STATES:
            lines.append(
                f"Deployment “{deployment}” offers its devices nothing: the version is "
                f"{version.get_state_display().lower()}."
            )
        lines += [line for line in overlap_lines(deployment) if "all its devices" in line]
    for rollout in Rollout.objects.filter(target_version=version).select_related("deployment")[:20]:
        state = rollout.get_state_display().lower()
        line = f"{rollout} of “{rollout.deployment}” to it: {state}. {rollout.reason}"
        lines.append(line.strip())
    running = count_running(version)
    if running:
        lines.append(f"{write_count(running, 'device')} last reported running it.")
    return lines


def mark_versions(version_ids: Iterable[int]) -> dict[int, str]:
    """Version key to why the server took it back from devices."""
    return {version: said.words for version, said in find_taken_back(version_ids).items()}


def _unfinished() -> QuerySet[Rollout]:
    return Rollout.objects.exclude(state__in=Rollout.TERMINAL_STATES).select_related("deployment")
