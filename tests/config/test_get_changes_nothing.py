"""No page of the admin changes anything when it is only looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, reverse
from django.utils import timezone

from fleet.models import Deployment, Device, Rollout
from fleet.services.rollouts import start_rollout
from ingest.models import AlertRule, Incident
from registry.models import Version
from tests.factories.fleet import make_client, make_deployment, make_rollout

pytestmark = pytest.mark.django_db
APPS = ("registry", "fleet", "ingest", "compression", "notifications")
#: What stands for each part of an address, with every value that a page of the admin knows.
WORDS = {
    "to": ["approved", "deprecated", "yanked"],
    "step": ["start", "approve", "advance", "pause", "resume", "abort", "note"],
    "act": [
        "accept", "suspend", "reject", "decommission", "clear_quarantine", "rotate", "labels",
        "pin", "allow_sampling", "forbid_sampling", "let_in_again",
    ],
}  # fmt: skip


def patterns(resolver: Any, app: str = "") -> Iterator[URLPattern]:
    for entry in resolver:
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns)
        elif isinstance(entry, URLPattern) and entry.name:
            yield entry


def addresses() -> list[str]:
    """Every address below the admin that can be written with the keys of what is there."""
    found = []
    keys = {model: list(model._base_manager.values_list("pk", flat=True)[:1]) for model in models()}
    everything = sorted({str(pk) for pks in keys.values() for pk in pks})
    for entry in patterns(admin.site.urls[0]):
        names = list(entry.pattern.converters) or list(entry.pattern.regex.groupindex)  # type: ignore[attr-defined]
        rows: list[dict[str, Any]] = [{}]
        for name in names:
            values = WORDS.get(name, everything)
            rows = [{**row, name: value} for row in rows for value in values]
        for row in rows[:400]:
            try:
                found.append(reverse(f"admin:{entry.name}", kwargs=row))
            except NoReverseMatch:
                continue
    return sorted(set(found))


def models() -> list[Any]:
    return [model for app in APPS for model in apps.get_app_config(app).get_models()]


def snapshot() -> dict[str, list[Any]]:
    return {
        model._meta.label: list(model._base_manager.order_by("pk").values()) for model in models()
    }


def test_looking_at_every_page_leaves_every_row_as_it_was(ada: Client) -> None:
    deployment: Deployment = make_deployment()
    make_client().install(deployment.model.slug)
    running: Rollout = make_rollout(deployment=deployment)
    start_rollout(rollout_id=running.pk, actor="tester")
    make_rollout()
    assert deployment.stable_version is not None
    Incident.objects.create(
        rule=AlertRule.objects.create(name="any drift"), model=deployment.model,
        version=deployment.stable_version, metric="prediction_psi",
        slice="", status="firing", severity="warning", opened_at=timezone.now(),
    )  # fmt: skip
    assert Device.objects.exists() and Version.objects.exists()
    # What an address without its object answers is asked elsewhere.
    ada.raise_request_exception = False
    before = snapshot()
    tried = [address for address in addresses() if "/logout" not in address]
    assert any("acknowledge" in address for address in tried)
    assert any("/step/abort" in address for address in tried)
    for address in tried:
        ada.get(f"{address}?reason=x&confirmed=1&revision=1")
    assert snapshot() == before


def test_an_incident_is_acknowledged_by_a_post_with_a_token(ada: Client) -> None:
    deployment = make_deployment()
    assert deployment.stable_version is not None
    incident = Incident.objects.create(
        rule=AlertRule.objects.create(name="any drift"), model=deployment.model,
        version=deployment.stable_version, metric="prediction_psi",
        slice="", status="firing", severity="warning", opened_at=timezone.now(),
    )  # fmt: skip
    address = next(a for a in addresses() if "acknowledge" in a and f"/{incident.pk}" in a)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = ada.cookies
    assert strict.post(address, {"reason": "mine"}).status_code == 403
    incident.refresh_from_db()
    assert incident.status == "firing"
    ada.post(address, {"reason": "mine"})
    incident.refresh_from_db()
    assert (incident.status, incident.acknowledged_by) == ("acknowledged", "ada")
    assert incident.events.filter(action="acknowledged", reason="mine").exists()


@pytest.mark.parametrize("key", ["none", "1.5", "-1", "9" * 30, "²", "_5F", "1/2", "%00", "é"])
def test_a_page_of_a_key_that_names_no_row_is_no_failure(ada: Client, key: str) -> None:
    ada.raise_request_exception = False
    pages = set()
    for entry in patterns(admin.site.urls[0]):
        names = list(entry.pattern.converters)  # type: ignore[attr-defined]
        try:
            pages.add(reverse(f"admin:{entry.name}", kwargs=dict.fromkeys(names, key)))
        except NoReverseMatch:
            continue  # an address of its own form, such as a whole number
        pages.discard(reverse("admin:logout"))
    codes = {page: ada.get(page).status_code for page in sorted(pages)}
    assert len(pages) > 60
    assert {page: code for page, code in codes.items() if code >= 500} == {}
