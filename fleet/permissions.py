"""The permissions that acts of the fleet need beside viewing, adding and changing a row."""

from collections.abc import Mapping
from typing import Any

ADD_ROLLOUT = "fleet.add_rollout"
APPROVE_ROLLOUT = "fleet.approve_rollout"
DECOMMISSION_DEVICE = "fleet.decommission_device"
RELEASE_AT_ONCE = "fleet.release_at_once"


def needed_to_release(changes: Mapping[str, Any], *, is_at_once: bool) -> set[str]:
    """What a change of a deployment needs beside changing it.

    Another version, another set of variants or another alias to follow is a rollout; without its
    stages and gates, it is a right of its own.
    """
    if not {"stable_version", "variants", "follows"} & set(changes):
        return set()
    return {RELEASE_AT_ONCE if is_at_once else ADD_ROLLOUT}
