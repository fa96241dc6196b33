"""What a plan could notice, told beside the form while a person still types it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from django.core.cache import cache

from fleet.models import Deployment
from fleet.notices import PREVIEW_SECONDS
from fleet.rules.plan_power import find_stage_power
from fleet.selection import deployment_devices
from registry.units import write_count

MAX_STAGES = 20
_FAILURE_RATE, _SUCCESS = 0.1, 0.95


def describe_typed(typed: Mapping[str, str]) -> list[str]:
    """A line for each stage typed so far, or what is still missing.

    Args:
        typed: the fields of the form by name, whatever they hold.
    """
    key = typed.get("deployment", "")
    deployment = Deployment.objects.filter(pk=int(key)).first() if _is_key(key) else None
    if deployment is None:
        return ["Choose a deployment: then the devices of each stage are counted."]
    rate = _share(typed.get("max_failure_rate", ""), _FAILURE_RATE)
    if rate is None:
        return ["Max failure rate: expected a share above 0 and below 1."]
    devices = count_devices(deployment)
    lines = []
    for index in range(MAX_STAGES):
        percent = typed.get(f"stages-{index}-percent", "").strip()
        if typed.get(f"stages-{index}-canary_selector", "").strip():
            lines.append(
                f"Stage {index + 1} takes devices by their labels: its page counts them once the "
                "draft is saved."
            )
        elif percent:
            lines.append(f"Stage {index + 1}: {_describe(typed, index, percent, devices, rate)}")
    if not lines:
        return ["Type a percentage: then what the stage can notice is told."]
    whole = f"The deployment has {write_count(devices, 'accepted device')}."
    return [whole, *lines]


def count_devices(deployment: Deployment) -> int:
    """Accepted devices that the deployment decides for, counted within the last minutes."""
    key = f"fleet:deployment-devices:{deployment.pk}"
    found = cache.get(key)
    if found is None:
        found = deployment_devices(deployment).count()
        cache.set(key, found, PREVIEW_SECONDS)
    return int(found)


def _describe(typed: Mapping[str, str], index: int, percent: str, devices: int, rate: float) -> str:
    value = _number(percent)
    if value is None or not 0 < value <= 100:
        return f"expected a percentage above 0 and at most 100; got {percent[:20]!r}."
    success = _share(typed.get(f"stages-{index}-success_threshold", ""), _SUCCESS, most=1.0)
    if success is None:
        return "success threshold: expected a share above 0 and at most 1."
    # Hashing reaches a few devices more or less than its percentage.
    reached = devices if value == 100 else round(devices * value / 100)
    return (
        f"about {value:g} %. {find_stage_power(reached, round(rate, 4), round(success, 3)).words}"
    )


def _share(text: str, default: float, most: float = 0.9999) -> float | None:
    """The share in `text`, `default` where it is empty; None for what is none."""
    if not text.strip():
        return default
    value = _number(text)
    return value if value is not None and 0 < value <= most else None


def _number(text: str) -> float | None:
    try:
        value = float(text[:30])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
