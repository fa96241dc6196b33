"""Makes what a healthy fleet did the reference for what it does later."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from ingest.exceptions import ReferenceTooSmallError
from ingest.rules.bins import GAMMA
from ingest.rules.windows import WindowCounts, sum_counts
from ingest.selectors.releases import baseline_of
from ingest.selectors.rollups import sum_rollups
from ingest.services.aggregation import feature_suffix
from ingest.services.evaluation import policy_of
from registry.models import Baseline, Version
from registry.services.baselines import pin_baseline
from registry.units import write_count

LEAST_RECORDS = 1000


@transaction.atomic
def pin_fleet_reference(
    *, version: Version, start: datetime, end: datetime, reason: str, actor: str
) -> Baseline:
    """The new active baseline of `version`: the fleet's counts over [start, end).

    Raises:
        ReferenceTooSmallError: fewer than 1,000 records or than the policy's least devices.
        InvalidFieldError: no reason is given.
    """
    found = sum_rollups(version.pk, start, end)
    rows = found.rows()
    total = sum_counts(rows)
    least = policy_of(version.model).min_devices
    if total.latency_n < LEAST_RECORDS or found.devices < least:
        raise ReferenceTooSmallError(
            f"{write_count(total.latency_n, 'record')} of "
            f"{write_count(found.devices, 'device')}; a reference needs {LEAST_RECORDS} records "
            f"of {write_count(least, 'device')}."
        )
    return pin_baseline(
        version=version,
        variant=None,
        profile=_profile(rows, total, version, baseline_of(version.pk, None)),
        source=f"fleet {start.isoformat()} to {end.isoformat()}",
        reason=reason,
        actor=actor,
    )


def _groups(rows: Sequence[WindowCounts], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The counts of each device, or of random groups of devices where they are many.

    They tell how much of a difference to this reference is only that it was made of other devices.
    """
    groups = []
    for total in rows:
        groups.append(
            {
                "n": total.n,
                "confidence": total.confidence,
                "classes": total.classes,
                "latency": {str(index): count for index, count in sorted(total.latency.items())},
                "features": {
                    name: total.features[key]
                    for key, name in names.items()
                    if key in total.features
                },
            }
        )
    return groups


def _profile(
    rows: Sequence[WindowCounts],
    total: WindowCounts,
    version: Version,
    before: Baseline | None,
) -> dict[str, Any]:
    """A baseline profile of fleet counts; features keep the edges they were counted by."""
    old: dict[str, Any] = before.profile if before else {}
    suffix = feature_suffix(before) if before else ""
    features = [
        {**feature, "counts": total.features[feature["name"] + suffix]}
        for feature in old.get("features", [])
        if feature["name"] + suffix in total.features
    ]
    names = {feature["name"] + suffix: feature["name"] for feature in features}
    return {
        "schema": "aviary.baseline/1",
        "n": total.latency_n,
        "has_classes": old.get("has_classes", True),
        "has_confidence": old.get("has_confidence", True),
        "labels": list(version.model.labels),
        "confidence": {"counts": total.confidence},
        "class": {"counts": total.classes},
        "latency": {
            "gamma": GAMMA,
            "counts": {str(index): count for index, count in sorted(total.latency.items())},
        },
        # All features or none: records carry them by position.
        "features": features if len(features) == len(old.get("features", [])) else [],
        "groups": _groups(rows, names),
        "accuracy": old.get("accuracy"),
        "calibration": old.get("calibration"),
    }
