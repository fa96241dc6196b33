"""What a person should know about a deployment or a rollout before they act, in sentences.

The pages, the forms and the API say the same ones.
"""

from __future__ import annotations

from typing import Any

from django.core.cache import cache

from fleet import selectors
from fleet.models import Deployment, Rollout
from fleet.rules.overlaps import Claim, find_shadows
from fleet.services.taken_back import find_taken_back
from registry.models import Version, VersionState
from registry.states import DEPLOYABLE_STATES

#: How long the devices counted per stage are kept: counting walks the whole deployment.
PREVIEW_SECONDS = 120
MAX_OVERLAPS = 10


def deployment_notices(deployment: Deployment) -> list[str]:
    """About its version, its alias, and the deployments that compete with it."""
    if deployment.state != Deployment.State.ACTIVE:
        return []
    lines = []
    stable = deployment.stable_version
    if stable is None:
        lines.append("It has no stable version: its devices are offered nothing.")
    else:
        lines += version_state_lines(stable, "Its stable version")
        if stable.state in DEPLOYABLE_STATES and not deployment.variants.all():
            lines.append(f"None of the variants of {stable} is named: nothing is offered.")
    alias = deployment.follows
    if alias is not None and alias.version_id != deployment.stable_version_id:
        lines.append(
            f"It follows {alias.name}, which names {alias.version.version}; its stable version is "
            f"{stable.version if stable else 'none'}."
        )
    return lines + overlap_lines(deployment)


def version_state_lines(version: Version, subject: str) -> list[str]:
    """What a version's state means to those who are to run it; empty when it is approved."""
    if version.state == VersionState.DEPRECATED:
        return [f"{subject} {version.version} is deprecated: still offered, to be moved away from."]
    if version.state not in DEPLOYABLE_STATES:
        return [f"{subject} {version.version} is {version.state}: it is offered to no device."]
    return []


def overlap_lines(deployment: Deployment) -> list[str]:
    """Where this deployment and another one of its model may take the same devices."""
    rows = Deployment.objects.filter(
        model_id=deployment.model_id, state=Deployment.State.ACTIVE
    ).values_list("pk", "name", "priority", "selector")
    claims = [Claim(*row) for row in rows]
    # A form asks about one that is not saved yet; it would be the newest.
    own = Claim(deployment.pk or 2**62, deployment.name, deployment.priority, deployment.selector)
    lines = []
    for shadow in find_shadows(own, claims)[:MAX_OVERLAPS]:
        other = f"“{shadow.other.name}” (priority {shadow.other.priority})"
        if shadow.is_above:
            share = "all its devices" if shadow.is_whole else "the devices that match both"
            lines.append(f"{other} wins {share}: this deployment does not decide for them.")
        else:
            share = "all devices of" if shadow.is_whole else "the devices that match both it and"
            lines.append(f"It wins {share} {other}.")
    return lines


def stage_previews(rollout: Rollout) -> list[dict[str, Any]]:
    """Devices each stage reaches, counted now or within the last minutes."""
    key = f"fleet:rollout-preview:{rollout.pk}:{rollout.revision}"
    found = cache.get(key)
    if found is None:
        found = [
            {
                "number": row["stage"].index + 1,
                **{name: row[name] for name in ("devices", "incompatible", "unchanged", "of")},
            }
            for row in selectors.preview_stages(rollout)
        ]
        cache.set(key, found, PREVIEW_SECONDS)
    return list(found)


def rollout_notices(rollout: Rollout) -> list[str]:
    """About its versions, and about stages that reach nobody."""
    if rollout.state in Rollout.TERMINAL_STATES:
        return []
    target = rollout.target_version
    lines = version_state_lines(target, "The target")
    previous = rollout.previous_version
    if previous is not None and previous.state not in DEPLOYABLE_STATES:
        lines.append(
            f"The version before, {previous.version}, is {previous.state}: an abort has nothing "
            "to send devices back to."
        )
    if rollout.state in Rollout.NOT_STARTED_STATES:
        said = find_taken_back([target.pk]).get(target.pk)
        if said is not None and said.variants & {v.pk for v in rollout.variants.all()}:
            lines.append(f"{target.version} was taken back before: {said.words}.")
        lines += stage_lines(stage_previews(rollout))
        lines += [line for line in overlap_lines(rollout.deployment) if "does not decide" in line]
    return lines


def stage_lines(previews: list[dict[str, Any]]) -> list[str]:
    """Which stages reach no device that would change, in sentences."""
    if previews and previews[0]["of"] == 0:
        return ["It reaches no device: none that is accepted belongs to the deployment."]
    lines = []
    for row in previews:
        changed = row["devices"] - row["incompatible"] - row["unchanged"]
        if row["devices"] == 0:
            lines.append(
                f"Stage {row['number']} reaches no device of {row['of']:,}: nothing would be "
                "learnt, and it would pause."
            )
        elif changed == 0:
            lines.append(
                f"Stage {row['number']} changes no device: of {row['devices']:,} that it reaches "
                f"{row['incompatible']:,} fit no variant and {row['unchanged']:,} run it already."
            )
    return lines
