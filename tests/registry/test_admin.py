"""The registry's pages: every list opens, uploads and moves go through the services."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from registry.models import AuditEvent, Version
from registry.services.aliases import move_alias
from tests.factories.registry import make_dataset, make_model, make_onnx, make_version

pytestmark = pytest.mark.django_db
TABLES = ["model", "version", "variant", "dataset", "baseline", "alias", "auditevent"]


@pytest.fixture
def version() -> Version:
    model = make_model()
    found = make_version(model, dataset=make_dataset(model), state="ready")
    move_alias(version=found, name="champion", actor="ada")
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_list_and_its_first_row_open(
    table: str, admin_client: Client, version: Version
) -> None:
    assert admin_client.get(reverse(f"admin:registry_{table}_changelist")).status_code == 200
    from django.apps import apps

    row = apps.get_model("registry", table)._default_manager.order_by("pk").first()
    page = admin_client.get(reverse(f"admin:registry_{table}_change", args=[row.pk]))
    assert page.status_code == 200


def test_the_page_of_a_version_shows_every_digest(admin_client: Client, version: Version) -> None:
    page = admin_client.get(reverse("admin:registry_version_change", args=[version.pk]))
    variant = version.variants.get()
    text = page.content.decode()
    assert variant.manifest_sha256 in text
    for file in variant.files.all():
        assert file.blob_id in text


def test_a_version_is_approved_and_yanked_with_a_reason(
    admin_client: Client, version: Version
) -> None:
    approve = reverse("admin:registry_version_transition", args=[version.pk, "approved"])
    assert admin_client.get(approve).status_code == 200
    version.refresh_from_db()
    assert version.state == "ready"
    assert admin_client.post(approve, {"reason": "good"}).status_code == 302
    yank = reverse("admin:registry_version_transition", args=[version.pk, "yanked"])
    assert admin_client.post(yank, {"reason": ""}).status_code == 200
    admin_client.post(yank, {"reason": "bad"})
    version.refresh_from_db()
    assert version.state == "yanked"
    event = AuditEvent.objects.latest("pk")
    assert (event.actor, event.details["reason"]) == ("admin", "bad")


def test_a_file_is_uploaded(admin_client: Client) -> None:
    model = make_model()
    add = reverse("admin:registry_version_add")
    assert admin_client.get(add).status_code == 200
    body: dict[str, Any] = {
        "model": model.pk,
        "version": "1.0.0",
        "file": SimpleUploadedFile("m.onnx", make_onnx()),
    }
    assert admin_client.post(add, body).status_code == 302
    found = Version.objects.get()
    assert (found.version, found.created_by) == ("1.0.0", "admin")
    body["file"] = SimpleUploadedFile("m.onnx", make_onnx())
    again = admin_client.post(add, body)
    assert again.status_code == 200
    assert "already" in again.content.decode()


def test_notes_are_edited_through_the_service(admin_client: Client, version: Version) -> None:
    url = reverse("admin:registry_version_change", args=[version.pk])
    body = {"notes": "hello", "tags": "[]", "variants-TOTAL_FORMS": 0, "variants-INITIAL_FORMS": 0}
    assert admin_client.post(url, body).status_code == 302
    version.refresh_from_db()
    assert version.notes == "hello"
    assert AuditEvent.objects.latest("pk").action == "version.edited"


def test_two_versions_are_compared(admin_client: Client, version: Version) -> None:
    other = make_version(version.model, state="ready")
    url = reverse("admin:registry_version_changelist")
    body = {"action": "compare_selected", "_selected_action": [version.pk, other.pk]}
    page = admin_client.post(url, body, follow=True)
    assert page.status_code == 200
    assert "differs" in page.content.decode()


def test_the_audit_log_cannot_be_written(admin_client: Client, version: Version) -> None:
    event = AuditEvent.objects.latest("pk")
    assert admin_client.get(reverse("admin:registry_auditevent_add")).status_code == 403
    for name in ("change", "delete"):
        url = reverse(f"admin:registry_auditevent_{name}", args=[event.pk])
        assert admin_client.post(url, {"actor": "eve", "post": "yes"}).status_code == 403
