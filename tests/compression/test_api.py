"""The persons' API of compression."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from rest_framework.test import APIClient

from compression.models import Job
from tests.factories.compression import make_job, make_version

JOBS = "/api/v1/compression/jobs/"


@pytest.fixture
def client(db):
    user = get_user_model().objects.create_superuser("ada", password="x")
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def sent(monkeypatch):
    ids = []
    monkeypatch.setattr("compression.tasks.run_job.delay", ids.append)
    return ids


def make_order(version, /, **over):
    sets = {dataset.kind: dataset.pk for dataset in version.model.datasets.all()}
    order = {
        "version": version.pk,
        "preset": "static-int8",
        "calibration_dataset": sets["calibration"],
        "evaluation_dataset": sets["evaluation"],
    }
    return {**order, **over}


def test_a_job_is_started_from_a_preset_and_sent_once_it_is_stored(
    client, sent, django_capture_on_commit_callbacks
):
    version = make_version()
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(JOBS, make_order(version), format="json")
    assert answer.status_code == 201, answer.json()
    job = Job.objects.get()
    assert sent == [str(job.pk)]
    again = client.post(JOBS, make_order(version), format="json")
    assert (again.status_code, again.json()["id"], len(sent)) == (200, str(job.pk), 1)
    assert again.json()["is_answered_from_cache"] is False, "it is not measured yet"
    body = client.get(f"{JOBS}{job.pk}/").json()
    assert (body["state"], body["variant_name"]) == ("queued", "int8-static")
    assert body["progress"] == {
        "fraction": 0.0,
        "eta_seconds": None,
        "index": None,
        "steps": 2,
        "name": "",
        "done": None,
        "total": None,
        "step_eta_seconds": None,
        "queue_position": 0,
    }
    assert (
        body["recipe"]["source"]["sha256"] == version.variants.get().files.get(role="model").blob_id
    )


BAD = {
    "neither preset nor recipe": {"preset": ""},
    "unknown preset": {"preset": "magic"},
    "recipe is no object": {"recipe": [1]},
    "recipe is invalid": {"recipe": {"gates": {"max_bytes": -1}}},
    "no such version": {"version": 999},
    "same set twice": {"evaluation_dataset": None},
    "no calibration": {"calibration_dataset": None},
    "too few rows": {"recipe": {"data": {"min_calibration": 5000}}},
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_order_is_refused_in_the_one_error_shape(case, client, sent):
    version = make_version()
    answer = client.post(JOBS, make_order(version, **BAD[case]), format="json")
    assert answer.status_code == 400
    assert set(answer.json()) == {"code", "message", "details"}
    assert not Job.objects.exists() and not sent


def test_cancelling_twice_is_a_conflict(client):
    job = make_job(make_version())
    assert client.post(f"{JOBS}{job.pk}/cancel/").json()["state"] == "cancelled"
    assert client.post(f"{JOBS}{job.pk}/cancel/").status_code == 409


@pytest.mark.parametrize(
    ("codename", "statuses"),
    [(None, (403, 403, 403)), ("view_job", (200, 403, 403)), ("change_job", (403, 403, 200))],
)
def test_permissions_decide_who_reads_starts_and_cancels(codename, statuses, db, sent):
    job = make_job(make_version())
    user = get_user_model().objects.create_user("bob", password="x")
    if codename:
        user.user_permissions.add(Permission.objects.get(codename=codename))
    client = APIClient()
    client.force_authenticate(get_user_model().objects.get(pk=user.pk))
    got = (
        client.get(JOBS).status_code,
        client.post(JOBS, make_order(job.version), format="json").status_code,
        client.post(f"{JOBS}{job.pk}/cancel/").status_code,
    )
    assert got == statuses


def test_nobody_reads_without_signing_in(db):
    assert APIClient().get(JOBS).status_code == 401


def test_the_list_costs_the_same_for_many_jobs(client, django_assert_max_num_queries):
    version = make_version()
    for _ in range(5):
        make_job(version)
    with django_assert_max_num_queries(3):
        body = client.get(JOBS).json()
    assert len(body["results"]) == 5


def test_presets_are_listed_with_their_recipes(client):
    rows = client.get("/api/v1/compression/presets/").json()
    assert {"static-int8", "dynamic-int8", "mixed"} <= {row["slug"] for row in rows}
