"""The registry's admin pages: what they show, whom they refuse, and which services they call."""

import io
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from registry.models import Alias, AuditEvent, DataSet, Model, Version
from registry.services.aliases import move_alias
from registry.services.audit import verify_chain
from registry.services.variants import attach_variant
from tests.factories.fleet import make_client, make_deployment
from tests.factories.registry import (
    make_dataset,
    make_model,
    make_npz,
    make_onnx,
    make_upload,
    make_version,
)

pytestmark = pytest.mark.django_db

LISTS = (
    "model", "version", "variant", "variantfile", "blob", "baseline", "dataset", "alias",
    "auditevent",
)  # fmt: skip
#: Session, user, count, page, filters and the question whether the table is empty.
MOST_QUERIES = 14


@pytest.fixture
def filled() -> Version:
    """A version with data set, baseline, two variants, an alias and a successor."""
    model = make_model()
    version = make_version(model, dataset=make_dataset(model))
    source = version.variants.get()
    attach_variant(
        version=version,
        name="int8-static",
        files=[("model.onnx", "model", source.files.get(role="model").blob_id)],
        metrics={
            "accuracy": {"value": 0.982, "low": 0.966, "high": 0.99, "samples": 500},
            "latency_ms": {"p50": 0.11, "p95": 0.15, "p99": 0.22},
        },
        provenance={"kind": "compression"},
        derived_from=source,
        is_promotable=False,
        actor="tester",
    )
    make_version(model, state="ready", metadata={"parent": version.version})
    move_alias(version=version, name="champion", actor="tester", reason="best so far")
    return version


def change_url(obj: Any) -> str:
    meta = obj._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[obj.pk])


def client_with(django_user_model: Any, *permissions: str) -> Client:
    user = django_user_model.objects.create_user("someone", is_staff=True)
    for name in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=name, content_type__app_label="registry")
        )
    client = Client()
    client.force_login(user)
    return client


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


def transition_url(version: Version, to: str) -> str:
    return reverse("admin:registry_version_transition", args=[version.pk, to])


def test_the_confirmation_says_what_it_touches_and_changes_nothing(
    admin_client: Client, filled: Version
) -> None:
    response = admin_client.get(transition_url(filled, "yanked"))
    assert "is never offered again" in response.text
    assert "In use by: 1 alias" in response.text
    filled.refresh_from_db()
    assert filled.state == "approved"


def test_the_confirmation_counts_deployments_and_devices(admin_client: Client) -> None:
    version = make_version()
    make_deployment(stable_version=version)
    client = make_client()
    client.install(version.model.slug)
    text = admin_client.get(transition_url(version, "yanked")).text
    assert "In use by: " in text
    assert "1 deployment as stable version" in text
    assert "1 device in installations" in text


def test_a_transition_moves_the_version_and_keeps_actor_and_reason(admin_client: Client) -> None:
    version = make_version(state="ready")
    response = admin_client.post(transition_url(version, "approved"), {"reason": "Measured well"})
    assert response.status_code == 302
    version.refresh_from_db()
    assert version.state == "approved"
    event = AuditEvent.objects.get(action="version.approved")
    assert (event.actor, event.details["reason"]) == ("admin", "Measured well")
    assert "Measured well" in admin_client.get(version.get_absolute_url()).text


def test_a_transition_without_a_reason_is_refused(admin_client: Client) -> None:
    version = make_version(state="ready")
    assert admin_client.post(transition_url(version, "approved"), {"reason": ""}).status_code == 200
    version.refresh_from_db()
    assert version.state == "ready"


def test_a_transition_from_the_wrong_state_shows_the_error(admin_client: Client) -> None:
    version = make_version(state="ready")
    response = admin_client.post(transition_url(version, "deprecated"), {"reason": "old"})
    assert response.status_code == 200
    assert "cannot go from ready to deprecated" in response.text
    version.refresh_from_db()
    assert version.state == "ready"


def test_an_unknown_target_state_is_not_found(admin_client: Client) -> None:
    version = make_version(state="ready")
    assert admin_client.post(transition_url(version, "draft"), {"reason": "x"}).status_code == 404


def test_a_transition_needs_the_csrf_token(django_user_model: Any) -> None:
    user = django_user_model.objects.create_superuser("root")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    version = make_version(state="ready")
    response = client.post(transition_url(version, "approved"), {"reason": "x"})
    assert response.status_code == 403
    version.refresh_from_db()
    assert version.state == "ready"


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


def test_two_versions_are_compared(admin_client: Client, filled: Version) -> None:
    other = filled.children.get()
    address = reverse("admin:registry_version_changelist")
    chosen = {"action": "compare_selected", "_selected_action": [filled.pk, other.pk]}
    response = admin_client.post(address, chosen, follow=True)
    assert response.status_code == 200
    assert "differs" in response.text and filled.version in response.text
