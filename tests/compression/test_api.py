"""The management API of compression."""

import io

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from compression.models import Job
from compression.recipe.passes import PASSES
from compression.report.comparison import COMPARISON_FIELDS, LAYER_FIELDS
from compression.services.running import run_job
from fleet.polling.plans import build_plan
from registry.services.datasets import register_dataset
from tests.factories.compression import make_job, make_samples, make_version, pack_npz

JOBS = "/api/v1/compression/jobs/"
SMALL = {"data": {"min_calibration": 100}, "limits": {"wall_seconds": 120}}
NO_GATES = {"max_accuracy_drop_points": None}


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


def test_a_set_that_does_not_feed_the_model_is_refused_when_ordered(client, sent):
    version = make_version()
    x = np.zeros((200, 8, 8, 3), np.float32)
    made = register_dataset(
        model_slug=version.model.slug,
        name="channels-last",
        kind="calibration",
        stream=io.BytesIO(pack_npz(x=x)),
        actor="tester",
    )
    order = make_order(version, calibration_dataset=made.pk, recipe=SMALL)
    answer = client.post(JOBS, order, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "dataset_unusable")
    assert (
        "channels-last: The data set's x has shape [200, 8, 8, 3]; the input"
        in answer.json()["message"]
    )
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


def test_measured_variants_come_as_json_and_csv_and_a_job_is_run_again(
    client, sent, settings, tmp_path, django_capture_on_commit_callbacks
):
    settings.AVIARY_HOME = tmp_path
    gates = {"max_bytes": 10}
    version = make_version()
    job = run_job(job_id=make_job(version).pk)
    failed = run_job(job_id=make_job(version, recipe={**SMALL, "gates": gates}).pk)
    assert (job.state, failed.state) == ("passed", "failed_gate")
    address = f"/api/v1/compression/versions/{version.pk}/variants/"
    with CaptureQueriesContext(connection) as queries:
        rows = client.get(address).json()
    assert len(queries) <= 3
    assert [row["name"] for row in rows] == ["fp32", "int8-static", "int8-static"]
    assert [row["is_promotable"] for row in rows] == [True, True, False]
    assert rows[2]["why_not"].startswith("failed a gate") and "bytes" in rows[2]["why_not"]
    assert rows[0]["is_on_front"] in (True, False) and rows[1]["accuracy_low"] is not None
    table = client.get(f"{address}?format=csv")
    assert table["Content-Type"].startswith("text/csv")
    header, *lines = table.content.decode().splitlines()
    assert header.split(",") == list(COMPARISON_FIELDS) and len(lines) == 3
    assert set(rows[0]) == set(COMPARISON_FIELDS) == set(rows[1])
    picture = client.get(f"{address}?format=svg")
    assert picture["Content-Type"].startswith("image/svg+xml") and b"fp32" in picture.content
    missing = client.get("/api/v1/compression/versions/0/variants/?format=csv")
    assert (missing.status_code, missing["Content-Type"]) == (404, "application/json")
    assert missing.json()["code"] == "not_found"
    assert client.get(f"{JOBS}{job.pk}/candidates/").json() == []
    layers = client.get(f"{JOBS}{job.pk}/layers/").json()
    assert len([row for row in layers if row["zero_share"] is not None]) == 5
    header, *lines = client.get(f"{JOBS}{job.pk}/layers/?format=csv").content.decode().splitlines()
    assert header.split(",") == list(LAYER_FIELDS) and len(lines) == len(layers)
    order = make_order(version, recipe={"data": SMALL["data"], "limits": {"wall_seconds": 120}})
    answered = client.post(JOBS, order, format="json")
    assert (answered.status_code, answered.json()["id"]) == (200, str(job.pk))
    assert answered.json()["is_answered_from_cache"] is True
    assert answered.json()["report"]["ratio"] == job.report["ratio"]
    assert answered.json()["progress"]["fraction"] == 1.0
    with django_capture_on_commit_callbacks(execute=True):
        again = client.post(f"{JOBS}{job.pk}/rerun/")
    assert (again.status_code, again.json()["rerun_of"]) == (201, str(job.pk))
    assert sent == [again.json()["id"]]
    assert client.post(f"{JOBS}{again.json()['id']}/rerun/").status_code == 409


def test_what_random_data_calibrated_is_never_offered_to_a_device(client, settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    version = make_version()
    recipe = {"data": {"allow_random": True, "min_calibration": 64}, "gates": NO_GATES}
    random = run_job(job_id=make_job(version, calibration_dataset=None, recipe=recipe).pk)
    passing = run_job(job_id=make_job(version, preset="dynamic-int8", recipe=SMALL).pk)
    assert (random.state, random.result_variant.is_promotable) == ("passed", False)
    rows = client.get(f"/api/v1/compression/versions/{version.pk}/variants/").json()
    assert [row["why_not"] for row in rows] == ["", "calibrated on random data", ""]
    model = version.model.slug
    version_address = f"/api/v1/models/{model}/versions/{version.version}/"
    reason = {"to": "approved", "reason": "a test"}
    assert client.post(f"{version_address}transition/", reason, format="json").status_code == 200
    deployment = {"name": "line", "model": model, "stable_version": version.version}
    assert client.post("/api/v1/deployments/", deployment, format="json").status_code == 201
    (planned,) = build_plan(model_id=version.model_id)["deployments"]
    offered = {variant["name"] for variant in planned["stable"]["variants"]}
    assert offered == {"fp32", passing.result_variant.name}


@pytest.mark.parametrize(("least", "may"), [(None, False), (0.5, True)])
def test_a_variant_is_promotable_only_if_something_judged_its_answers(
    client, settings, tmp_path, least, may
):
    settings.AVIARY_HOME = tmp_path
    version = make_version()
    unlabelled = register_dataset(
        model_slug=version.model.slug,
        name="unlabelled",
        kind="evaluation",
        stream=io.BytesIO(pack_npz(x=make_samples(60, seed=5)[0])),
        actor="tester",
    )
    recipe = {**SMALL, "gates": {"min_agreement": least}}
    order = {"preset": "dynamic-int8", "recipe": recipe, "evaluation_dataset": unlabelled}
    job = run_job(job_id=make_job(version, **order).pk)
    assert (job.state, job.result_variant.is_promotable) == ("passed", may)
    row = client.get(f"/api/v1/compression/versions/{version.pk}/variants/").json()[-1]
    why = "" if may else "nothing judged its answers: no labels, and no gate on agreement"
    assert row["why_not"] == why


def test_too_few_rows_to_judge_a_gate_are_warned_of(db, settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    version = make_version()
    x, y = make_samples(40, seed=6)
    few = register_dataset(
        model_slug=version.model.slug,
        name="few",
        kind="evaluation",
        stream=io.BytesIO(pack_npz(x=x, y=y)),
        actor="tester",
    )
    order = {"preset": "dynamic-int8", "recipe": SMALL, "evaluation_dataset": few}
    job = run_job(job_id=make_job(version, **order).pk)
    expected = "One of 40 evaluation rows is 2.5 points of accuracy: too few to judge 1."
    assert expected in job.report["warnings"]


def test_what_is_made_of_a_variant_that_cannot_be_promoted_cannot_be_either(
    client, settings, tmp_path
):
    settings.AVIARY_HOME = tmp_path
    version = make_version()
    version.variants.update(is_promotable=False)
    job = run_job(job_id=make_job(version, preset="dynamic-int8", recipe=SMALL).pk)
    assert (job.state, job.result_variant.is_promotable) == ("passed", False)
    row = client.get(f"/api/v1/compression/versions/{version.pk}/variants/").json()[-1]
    assert row["why_not"] == "made of fp32, which cannot be promoted"


def test_passes_tell_what_their_parameters_may_be(client):
    passes = {row["name"]: row for row in client.get("/api/v1/compression/passes/").json()}
    assert set(passes) == set(PASSES)
    (ratio,) = [p for p in passes["prune.structured"]["parameters"] if p["name"] == "ratio"]
    rule = PASSES["prune.structured"].parameters["ratio"]
    assert ratio == {
        "name": "ratio",
        "kind": "float",
        "default": rule.default,
        "minimum": rule.minimum,
        "maximum": rule.maximum,
        "choices": [],
        "is_nullable": False,
    }
    assert passes["finetune.kd"]["trains"] and not passes["prepare"]["needs_calibration"]
