"""What is uploaded, named and registered through the admin's forms."""

import io
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from registry.models import Alias, AuditEvent, DataSet, Model, Version
from registry.services.aliases import move_alias
from tests.factories.registry import (
    make_dataset,
    make_model,
    make_npz,
    make_onnx,
    make_upload,
    make_version,
)
from tests.registry.admin_pages import change_url

pytestmark = pytest.mark.django_db


def upload(client: Client, model: Model, **over: Any) -> Any:
    file = io.BytesIO(over.pop("data", make_onnx()))
    file.name = "anything.onnx"
    given = {"model": model.pk, "version": "2.0.0", "file": file, "notes": "From the page", **over}
    return client.post(reverse("admin:registry_version_add"), given)


def test_an_upload_makes_a_version_and_asks_for_its_validation(
    admin_client: Client, monkeypatch: Any, django_capture_on_commit_callbacks: Any
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("registry.tasks.validate_version.delay", asked.append)
    model = make_model()
    dataset = make_dataset(model)
    with django_capture_on_commit_callbacks(execute=True):
        response = upload(admin_client, model, dataset=dataset.pk)
    version = Version.objects.get(model=model)
    assert response.status_code == 302 and response["Location"] == version.get_absolute_url()
    assert (version.state, version.created_by) == ("validating", "admin")
    assert (version.notes, version.dataset) == ("From the page", dataset)
    assert asked == [version.pk]


def test_an_upload_that_the_service_refuses_is_shown_on_the_form(admin_client: Client) -> None:
    model = make_model()
    make_upload(model, version="2.0.0")
    cases = {
        "already": {},
        "invalid fields": {"version": "no spaces please"},
        "another model": {"version": "2.0.1", "dataset": make_dataset(make_model()).pk},
    }
    for words, over in cases.items():
        response = upload(admin_client, model, **over)
        assert response.status_code == 200
        assert words in response.text, words
    assert Version.objects.filter(model=model).count() == 1


def test_only_notes_and_tags_of_a_version_change(admin_client: Client) -> None:
    version = make_version()
    given = {"notes": "Seen", "tags": '["line-4"]', "state": "yanked", "version": "9", "_save": ""}
    assert admin_client.post(version.get_absolute_url(), given).status_code == 302
    changed = Version.objects.get(pk=version.pk)
    assert (changed.notes, changed.tags) == ("Seen", ["line-4"])
    assert (changed.state, changed.version) == (version.state, version.version)
    assert AuditEvent.objects.filter(action="version.edited", actor="admin").count() == 1


def test_a_model_is_created_through_the_service(admin_client: Client) -> None:
    address = reverse("admin:registry_model_add")
    given = {"slug": "gauges", "task": "classification", "labels": "low\nhigh\n"}
    assert admin_client.post(address, given).status_code == 302
    assert Model.objects.get(slug="gauges").labels == ["low", "high"]
    response = admin_client.post(address, given)
    assert response.status_code == 200 and "exists already" in response.text
    assert AuditEvent.objects.filter(action="model.created").count() == 1


def test_a_model_keeps_its_slug_and_labels(admin_client: Client) -> None:
    model = make_model()
    given = {"title": "Gauges", "tags": "[]", "slug": "other", "labels": "[]", "_save": ""}
    assert admin_client.post(change_url(model), given).status_code == 302
    changed = Model.objects.get(pk=model.pk)
    assert (changed.title, changed.slug, changed.labels) == ("Gauges", model.slug, model.labels)
    assert AuditEvent.objects.filter(action="model.edited", actor="admin").count() == 1


def test_an_alias_moves_on_record(admin_client: Client) -> None:
    model = make_model()
    first, second = make_version(model), make_version(model)
    address = reverse("admin:registry_alias_add")
    given = {"name": "champion", "version": first.pk, "reason": "first"}
    assert admin_client.post(address, given).status_code == 302
    alias = Alias.objects.get(model=model, name="champion")
    given = {"version": second.pk, "reason": "better on line 4"}
    assert admin_client.post(change_url(alias), given).status_code == 302
    alias.refresh_from_db()
    assert alias.version == second
    assert alias.moves.count() == 2
    assert "better on line 4" in admin_client.get(change_url(alias)).text


def test_an_alias_does_not_move_to_another_models_version(admin_client: Client) -> None:
    version, stranger = make_version(), make_version()
    alias = move_alias(version=version, name="champion", actor="tester")
    given = {"version": stranger.pk, "reason": "mistake"}
    assert admin_client.post(change_url(alias), given).status_code == 200
    alias.refresh_from_db()
    assert alias.version == version


def test_a_data_set_is_registered_or_its_error_shown(admin_client: Client) -> None:
    model = make_model()
    address = reverse("admin:registry_dataset_add")

    def post(data: bytes) -> Any:
        file = io.BytesIO(data)
        file.name = "eval.npz"
        given = {"model": model.pk, "name": "eval", "kind": "evaluation", "file": file}
        return admin_client.post(address, given)

    assert post(b"not an npz").status_code == 200
    assert not DataSet.objects.exists()
    assert post(make_npz()).status_code == 302
    assert DataSet.objects.get().created_by == "admin"
