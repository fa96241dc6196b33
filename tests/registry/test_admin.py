"""The registry's admin pages: what they show, whom they refuse, and what stays read-only."""

from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from registry.models import AuditEvent, Version
from registry.services.aliases import move_alias
from registry.services.audit import verify_chain
from tests.factories.registry import make_dataset, make_model, make_upload, make_version
from tests.registry.admin_pages import change_url, client_with, transition_url

pytestmark = pytest.mark.django_db

LISTS = (
    "model", "version", "variant", "variantfile", "blob", "baseline", "dataset", "alias",
    "auditevent",
)  # fmt: skip
#: Session, user, count, page and filters.
MOST_QUERIES = 13


@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_is_shown(admin_client: Client, name: str) -> None:
    response = admin_client.get(reverse(f"admin:registry_{name}_changelist"))
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model", "No model yet"),
        ("version", "No version yet"),
        ("dataset", "No data set yet"),
        ("baseline", "No baseline yet"),
        ("alias", "No alias yet"),
        ("auditevent", "No event yet"),
    ],
)
def test_an_empty_list_says_what_fills_it(admin_client: Client, name: str, words: str) -> None:
    assert words in admin_client.get(reverse(f"admin:registry_{name}_changelist")).text


def count_queries(client: Client) -> dict[str, int]:
    counts = {}
    for name in LISTS:
        with CaptureQueriesContext(connection) as queries:
            address = reverse(f"admin:registry_{name}_changelist")
            assert client.get(address).status_code == 200, name
        counts[name] = len(queries)
    return counts


def test_filled_lists_stay_within_their_query_budget(admin_client: Client, filled: Version) -> None:
    few = count_queries(admin_client)
    model = make_model()
    for _ in range(2):
        more = make_version(model, dataset=make_dataset(model))
        move_alias(version=more, name=f"name-{more.pk}", actor="tester")
    assert count_queries(admin_client) == few, "the number of queries grows with the rows"
    assert max(few.values()) <= MOST_QUERIES, few


def test_search_and_csv_work_on_every_list(admin_client: Client, filled: Version) -> None:
    for name in LISTS:
        address = reverse(f"admin:registry_{name}_changelist")
        assert admin_client.get(address, {"q": "model"}).status_code == 200, name
        table = apps.get_model("registry", name)
        rows = list(table._default_manager.values_list("pk", flat=True))
        response = admin_client.post(address, {"action": "export_csv", "_selected_action": rows})
        assert response["Content-Type"].startswith("text/csv"), name
        assert len(response.getvalue().decode().splitlines()) == 1 + len(rows), name


def test_csv_defuses_what_a_spreadsheet_would_run(admin_client: Client) -> None:
    model = make_model(title="=HYPERLINK(1)")
    response = admin_client.post(
        reverse("admin:registry_model_changelist"),
        {"action": "export_csv", "_selected_action": [model.pk]},
    )
    assert "'=HYPERLINK(1)" in response.getvalue().decode()


def test_the_version_page_shows_facts_variants_lineage_and_audit(
    admin_client: Client, filled: Version
) -> None:
    text = admin_client.get(filled.get_absolute_url()).text
    source = filled.variants.get(name="fp32")
    for expected in (
        "input · float32 [batch, 4]",
        "98.20 % [96.60, 99.00], n = 500",
        "100.00 % [",
        "0.15 ms",
        f'data-copy="{source.manifest_sha256}"',
        'aria-label="Lineage"',
        "version.approved",
        "1 alias",
        "Deprecate…",
        "Yank…",
    ):
        assert expected in text, expected
    assert "Approve…" not in text


def test_every_kind_of_object_has_a_page(admin_client: Client, filled: Version) -> None:
    variant = filled.variants.get(name="fp32")
    for obj in (
        filled.model,
        variant,
        variant.files.get(role="model"),
        filled.baselines.first(),
        filled.dataset,
        filled.aliases.get(),
        AuditEvent.objects.first(),
    ):
        assert obj is not None
        assert admin_client.get(change_url(obj)).status_code == 200, obj


def test_a_version_that_is_still_checked_and_a_rejected_one_are_shown(admin_client: Client) -> None:
    waiting = make_upload()
    text = admin_client.get(waiting.get_absolute_url()).text
    assert "A child process is checking the files" in text
    Version.objects.filter(pk=waiting.pk).update(state="rejected", rejection_reason="Bad <b>op</b>")
    text = admin_client.get(waiting.get_absolute_url()).text
    assert "Bad &lt;b&gt;op&lt;/b&gt;" in text


def test_a_version_that_does_not_exist_is_no_error(admin_client: Client) -> None:
    for key in ("999999", "word"):
        address = reverse("admin:registry_version_change", args=[key])
        assert admin_client.get(address).status_code in (302, 404)


def test_whoever_may_only_view_sees_no_buttons_and_cannot_act(
    django_user_model: Any, filled: Version
) -> None:
    client = client_with(django_user_model, "view_version", "view_alias", "view_dataset")
    text = client.get(filled.get_absolute_url()).text
    assert "Yank…" not in text
    alias = filled.aliases.get()
    for address in (
        transition_url(filled, "yanked"),
        reverse("admin:registry_version_add"),
        reverse("admin:registry_dataset_add"),
        reverse("admin:registry_alias_add"),
        change_url(alias),
    ):
        assert client.post(address, {"reason": "x"}).status_code == 403, address
    filled.refresh_from_db()
    assert filled.state == "approved"


def test_without_any_permission_every_page_is_refused(
    django_user_model: Any, filled: Version
) -> None:
    client = client_with(django_user_model)
    addresses = [reverse(f"admin:registry_{name}_changelist") for name in LISTS]
    addresses += [
        filled.get_absolute_url(),
        transition_url(filled, "yanked"),
        reverse("admin:registry_version_add"),
        reverse("admin:registry_model_add"),
        reverse("admin:registry_version_compare", args=[filled.pk, filled.pk]),
    ]
    for address in addresses:
        assert client.get(address).status_code == 403, address


def test_audit_events_can_neither_be_added_nor_changed_nor_deleted(
    admin_client: Client, filled: Version
) -> None:
    event = AuditEvent.objects.first()
    assert event is not None
    before = AuditEvent.objects.count()
    text = admin_client.get(change_url(event)).text
    assert event.digest in text and event.previous_digest in text
    assert admin_client.post(change_url(event), {"summary": "nothing happened"}).status_code == 403
    delete = reverse("admin:registry_auditevent_delete", args=[event.pk])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert admin_client.get(reverse("admin:registry_auditevent_add")).status_code == 403
    listing = reverse("admin:registry_auditevent_changelist")
    admin_client.post(listing, {"action": "delete_selected", "_selected_action": [event.pk]})
    assert AuditEvent.objects.count() == before == verify_chain()


def test_the_chain_is_verified_from_the_list(admin_client: Client, filled: Version) -> None:
    address = reverse("admin:registry_auditevent_verify_now")
    response = admin_client.get(address, follow=True)
    assert "events is whole" in response.text


def test_two_versions_are_compared(admin_client: Client, filled: Version) -> None:
    other = filled.children.get()
    address = reverse("admin:registry_version_changelist")
    chosen = {"action": "compare_selected", "_selected_action": [filled.pk, other.pk]}
    response = admin_client.post(address, chosen, follow=True)
    assert response.status_code == 200
    assert "differs" in response.text and filled.version in response.text
