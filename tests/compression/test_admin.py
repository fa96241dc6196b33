"""Compression pages of the admin."""

import json

import pytest
from django.urls import reverse

from compression.models import Job
from compression.services.running import run_job
from compression.states import JobState
from registry.models import AuditEvent
from tests.factories.compression import make_job, make_version

ADD = reverse("admin:compression_job_add")
SEARCH = {
    "objective": "size",
    "constraints": {"max_bytes": 400000, "max_p95_ms": None},
    "budget_seconds": 60,
    "seconds": 41.5,
    "candidates": [
        {
            "name": name,
            "passes": [],
            "bytes": size,
            "accuracy": accuracy,
            "accuracy_drop_points": 0.3,
            "agreement": 0.99,
            "p50_ms": 1.0,
            "p95_ms": 1.5,
            "judged_on": "full",
            "is_feasible": True,
            "is_on_front": name == "=int8",
            "reason": "",
        }
        for name, size, accuracy in (("=int8", 1000, 0.97), ("w8", 3000, 0.96))
    ],
    "recommended": "=int8",
    "sentence": "Take =int8: the smallest of 2 that keep every constraint.",
}


@pytest.fixture
def measured(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    return run_job(job_id=make_job(make_version()).pk)


def test_a_measured_job_shows_its_verdict_every_figure_and_the_comparison(admin_client, measured):
    page = admin_client.get(measured.get_absolute_url()).content.decode()
    for text in (
        "Passed every gate", "Latency p99", "Agreement with FP32", "max_accuracy_drop", "KL",
        "Compressed bytes", "Zero weights", "onnxruntime", "Run again", "on 600 samples",
    ):  # fmt: skip
        assert text in page, text
    listing = admin_client.get(reverse("admin:compression_job_changelist")).content.decode()
    assert "int8-static" in listing and "0 running, 0 queued" in listing
    front = admin_client.get(reverse("admin:compression_job_version", args=[measured.version_id]))
    table = front.content.decode()
    assert (
        "on the front" in table and "n = 600" in table and 'data-pareto="variant-points"' in table
    )
    picture = reverse("admin:compression_job_picture", args=[measured.version_id])
    version_page = admin_client.get(measured.version.get_absolute_url()).content.decode()
    assert f'hx-get="{picture}"' in version_page and "n = 600" in version_page
    assert "data-pareto" in admin_client.get(picture).content.decode()
    address = reverse("admin:compression_job_version_csv", args=[measured.version_id])
    lines = admin_client.get(address).getvalue().decode().splitlines()
    assert [line.split(",")[0] for line in lines] == ["name", "fp32", "int8-static"]
    for text in ("Collapse flags", "Left as they were", "MACs per sample", "Recipe (SHA-256)"):
        assert text in table, text
    layers = admin_client.get(reverse("admin:compression_job_layers", args=[measured.pk]))
    assert layers.getvalue().decode().startswith("layer,zero_share,source_zero_share")
    measured.report["search"] = SEARCH
    measured.save(update_fields=["report"])
    page = admin_client.get(measured.get_absolute_url()).content.decode()
    assert "Take =int8" in page and "search-points" in page and "max bytes 400000" in page
    address = reverse("admin:compression_job_candidates", args=[measured.pk])
    assert "'=int8,1000,0.97" in admin_client.get(address).getvalue().decode()


def test_a_measured_job_is_run_again_by_its_button(admin_client, measured, monkeypatch):
    monkeypatch.setattr("compression.tasks.run_job.delay", lambda job_id: None)
    address = reverse("admin:compression_job_rerun", args=[measured.pk])
    assert admin_client.get(address).status_code == 405
    answer = admin_client.post(address)
    again = Job.objects.get(rerun_of=measured)
    assert answer["Location"] == again.get_absolute_url()
    refused = admin_client.post(reverse("admin:compression_job_rerun", args=[again.pk]))
    assert refused["Location"] == again.get_absolute_url()
    assert Job.objects.count() == 2


def test_an_active_job_shows_its_progress_and_is_cancelled_by_its_button(admin_client):
    job = make_job(make_version())
    page = admin_client.get(job.get_absolute_url()).content.decode()
    assert "hx-get" in page and "Next in the queue." in page
    stored = {
        "index": 1, "name": "quantize.static", "done": 1, "total": 2, "share": 0.5,
        "step_eta_seconds": 3.0, "expected_seconds": [1.0, 4.0, 5.0], "spent_seconds": [1.0],
        "step_started_at": job.created_at.isoformat(),
    }  # fmt: skip
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING, progress=stored)
    page = admin_client.get(job.get_absolute_url()).content.decode()
    assert "30 %, step 2 of 3: quantize.static, 1/2, about" in page
    Job.objects.filter(pk=job.pk).update(state=JobState.QUEUED)
    cancel = reverse("admin:compression_job_cancel", args=[job.pk])
    assert admin_client.get(cancel).status_code == 405
    assert admin_client.post(cancel).status_code == 302
    live = admin_client.get(reverse("admin:compression_job_live", args=[job.pk]))
    assert live["HX-Refresh"] == "true" and b"Cancelled" in live.content
    assert AuditEvent.objects.filter(action="compression.cancelled").count() == 1


def test_a_job_is_started_from_the_form_or_refused_with_the_reason(admin_client, monkeypatch):
    monkeypatch.setattr("compression.tasks.run_job.delay", lambda job_id: None)
    version = make_version()
    other = make_version(slug="other")
    page = admin_client.get(ADD).content.decode()
    assert "Choose the version" in page and "Dynamic INT8" not in page
    address = f"{ADD}?version={version.pk}"
    page = admin_client.get(address).content.decode()
    assert page.count("held-out (600 rows") == 1, "data sets of the other model are not offered"
    sets = {dataset.kind: dataset.pk for dataset in version.model.datasets.all()}
    foreign = other.model.datasets.get(kind="evaluation").pk
    order = {
        "preset": "static-int8",
        "evaluation_dataset": sets["evaluation"],
        "max_accuracy_drop_points": "2.5",
        "max_bytes": "400000",
        "objective": "latency",
        "seconds": "90",
    }
    refusals = {
        "needs a calibration data set": {},
        "Select a valid choice": {"evaluation_dataset": foreign},
        "Not JSON: Expecting": {"recipe": "{"},
        "limits.threads: expected at least 1": {"recipe": '{"limits": {"threads": 0}}'},
        "Ensure this value is less than or equal to 1": {"min_agreement": "7"},
        "passes: expected a list": {"preset": "own"},
    }
    for reason, change in refusals.items():
        refused = admin_client.post(address, {**order, **change}).content.decode()
        assert reason in refused, reason
    assert not Job.objects.exists()
    order |= {"calibration_dataset": sets["calibration"], "recipe": '{"data": {"seed": 7}}'}
    started = admin_client.post(address, order)
    job = Job.objects.get()
    assert started["Location"] == job.get_absolute_url()
    assert job.recipe["gates"]["max_accuracy_drop_points"] == 2.5
    assert (job.recipe["gates"]["max_bytes"], job.recipe["data"]["seed"]) == (400000, 7)
    assert (job.recipe["search"]["objective"], job.recipe["search"]["seconds"]) == ("latency", 90)
    again = admin_client.post(address, order, follow=True).content.decode()
    assert "being worked on already" in again and Job.objects.count() == 1
    own = {"passes": [{"pass": "prepare"}], "data": {"min_calibration": 100}}
    admin_client.post(address, {**order, "preset": "own", "recipe": json.dumps(own)})
    assert Job.objects.get(preset="").recipe["passes"] == [{"pass": "prepare"}]


def test_empty_pages_say_what_would_be_here(admin_client):
    listing = admin_client.get(reverse("admin:compression_job_changelist")).content.decode()
    assert "No job yet" in listing and ADD in listing
    assert "No version is ready yet" in admin_client.get(ADD).content.decode()


def test_the_list_costs_the_same_for_many_jobs(admin_client, django_assert_max_num_queries):
    version = make_version()
    for _ in range(6):
        make_job(version)
    with django_assert_max_num_queries(14):
        admin_client.get(reverse("admin:compression_job_changelist"))
    with django_assert_max_num_queries(7):
        admin_client.get(Job.objects.first().get_absolute_url())


@pytest.mark.django_db
def test_pages_are_closed_to_people_without_permission(client, django_user_model):
    job = make_job(make_version())
    client.force_login(django_user_model.objects.create_user("bob", is_staff=True))
    for address in (
        job.get_absolute_url(),
        reverse("admin:compression_job_version_csv", args=[job.version_id]),
        reverse("admin:compression_job_picture", args=[job.version_id]),
        reverse("admin:compression_job_candidates", args=[job.pk]),
        ADD,
    ):
        assert client.get(address).status_code == 404
    assert client.post(reverse("admin:compression_job_rerun", args=[job.pk])).status_code == 404
