"""Which variants of a version a deployment or a rollout offers."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.exceptions import InvalidFleetInputError
from registry.models import Variant, Version


def choose_variants(version: Version, names: Sequence[str] | None = None) -> list[Variant]:
    """The named variants of the version; every one that may be offered now where `names` is None.

    Raises:
        InvalidFleetInputError: no name, an unknown one, or one that may not be offered.
    """
    offered = {
        variant.name: variant
        for variant in Variant.objects.filter(
            version=version, is_promotable=True, manifest_sha256__isnull=False
        ).order_by("pk")
    }
    if names is None:
        return list(offered.values())
    unknown = sorted(set(names) - set(offered))
    if unknown:
        raise InvalidFleetInputError(
            f"{version} can offer {', '.join(offered) or 'no variant'}; got {', '.join(unknown)}",
            {"variants": unknown},
        )
    if not names:
        raise InvalidFleetInputError(f"Name at least one variant of {version}")
    return [variant for name, variant in offered.items() if name in set(names)]
