"""Compression pages of the admin."""

import pytest
from django.urls import reverse

from compression.models import Job
from compression.services.running import run_job
from tests.factories.compression import make_job, make_version


def test_a_finished_job_shows_its_verdict_and_every_figure(admin_client, settings, tmp_path):
    settings.AVIARY_HOME = tmp_path
    job = run_job(job_id=make_job(make_version()).pk)
    page = admin_client.get(job.get_absolute_url()).content.decode()
    for text in ("Passed every gate", "Latency p95", "Agreement with FP32", "max_accuracy_drop"):
        assert text in page
    listing = admin_client.get(reverse("admin:compression_job_changelist")).content.decode()
    assert "int8-static" in listing
    front = admin_client.get(reverse("admin:compression_job_version", args=[job.version_id]))
    assert "on the front" in front.content.decode()


def test_a_queued_job_refreshes_itself_and_is_cancelled_by_its_button(admin_client):
    job = make_job(make_version())
    assert "hx-get" in admin_client.get(job.get_absolute_url()).content.decode()
    cancel = reverse("admin:compression_job_cancel", args=[job.pk])
    assert admin_client.get(cancel).status_code == 405
    assert admin_client.post(cancel).status_code == 302
    live = admin_client.get(reverse("admin:compression_job_live", args=[job.pk])).content.decode()
    assert "Cancelled" in live and "hx-get" not in live


def test_a_job_is_started_from_the_form_or_refused_with_the_reason(admin_client, monkeypatch):
    monkeypatch.setattr("compression.tasks.run_job.delay", lambda job_id: None)
    version = make_version()
    sets = {dataset.kind: dataset.pk for dataset in version.model.datasets.all()}
    order = {
        "version": version.pk,
        "preset": "static-int8",
        "evaluation_dataset": sets["evaluation"],
        "max_accuracy_drop_points": "2.5",
    }
    address = reverse("admin:compression_job_add")
    refused = admin_client.post(address, order)
    assert "needs a calibration data set" in refused.content.decode()
    order["calibration_dataset"] = sets["calibration"]
    assert admin_client.post(address, order).status_code == 302
    assert Job.objects.get().recipe["gates"]["max_accuracy_drop_points"] == 2.5


@pytest.mark.django_db
def test_pages_are_closed_to_people_without_permission(client, django_user_model):
    job = make_job(make_version())
    client.force_login(django_user_model.objects.create_user("bob", is_staff=True))
    assert client.get(job.get_absolute_url()).status_code == 404
