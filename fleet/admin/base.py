"""What every admin page of the fleet shares: words, colours and calls of services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from registry.exceptions import AviaryError
from registry.models import Variant

#: Words of a state to the theme's colour; the word is always shown, the colour only helps.
STATE_COLOURS = {
    "Pending": "warning",
    "Accepted": "success",
    "Suspended": "danger",
    "Decommissioned": "info",
    "Rejected": "danger",
    "Active": "success",
    "Retired": "info",
    "Draft": "info",
    "Awaiting approval": "warning",
    "Scheduled": "info",
    "Running": "primary",
    "Paused": "warning",
    "Completed": "success",
    "Aborting": "danger",
    "Aborted": "danger",
    "Rolled back": "danger",
    "Superseded": "info",
    "Offered": "info",
    "Downloading": "info",
    "Verified": "info",
    "Trial": "primary",
    "Timed out": "danger",
    "Incompatible": "warning",
    "Cancelled": "info",
    "Failed": "danger",
    "Committed": "success",
    "Regressed": "danger",
}
VERDICT_COLOURS = {"PASS": "success", "FAIL": "danger", "INCONCLUSIVE": "warning"}


def selector_words(selector: dict[str, Any] | None) -> str:
    """A selector in words: `site is lyon or nice and arch is arm64`."""
    if not selector:
        return "all devices"
    return " and ".join(
        f"{name} is {' or '.join(str(value) for value in values)}"
        for name, values in sorted(selector.items())
    )


def release_names(digests: Iterable[str]) -> dict[str, str]:
    """Manifest digest to `model version · variant` for those the registry knows; one query."""
    wanted = {digest for digest in digests if digest}
    if not wanted:
        return {}
    variants = Variant.objects.filter(manifest_sha256__in=wanted).select_related("version__model")
    return {
        str(variant.manifest_sha256): (
            f"{variant.version.model.slug} {variant.version.version} · {variant.name}"
        )
        for variant in variants
    }


def release_words(slug: str, digest: str | None, names: dict[str, str]) -> str:
    """One running release in words; an unknown digest is said to be unknown."""
    if not digest:
        return f"{slug}: nothing"
    return names.get(digest) or f"{slug} unknown {digest[:12]}"


def call_service(
    request: HttpRequest, act: Callable[[], Any], *, subject: str, done: str
) -> tuple[bool, Any]:
    """Calls a service and tells the person how it went; refusals become error messages."""
    try:
        result = act()
    except AviaryError as error:
        messages.error(request, f"{subject}: {error.message}")
        return False, None
    messages.success(request, f"{subject}: {done}")
    return True, result


def actor_of(request: HttpRequest) -> str:
    """The name under which this person's acts are recorded."""
    return request.user.get_username()
