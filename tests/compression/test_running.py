"""Jobs end to end through the real child process."""

import sys
import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from compression.exceptions import (
    DataSetUnusableError,
    JobStateError,
    RecipeInvalidError,
    TrainingUnavailableError,
)
from compression.models import Job, StepResult
from compression.services.jobs import cancel_job
from compression.services.queue import requeue_lost_jobs
from compression.services.running import run_job
from compression.states import JobState
from registry.models import AuditEvent, Variant
from servers.patience import CAP_SECONDS, wait_for
from tests.factories.compression import make_job, make_version


@pytest.fixture(autouse=True)
def own_home(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path


@pytest.mark.django_db
def test_static_int8_is_measured_judged_and_attached_with_its_origin(settings):
    job = run_job(job_id=make_job(make_version()).pk)
    assert job.state == JobState.PASSED, job.error or job.report["gates"]
    report = job.report
    assert report["ratio"] > 2.5
    assert abs(report["accuracy_drop_points"]) <= 1.0
    assert report["variant"]["accuracy"]["low"] < report["variant"]["accuracy"]["value"]
    assert report["variant"]["agreement"]["value"] > 0.98
    assert report["source"]["latency"]["runs"] == report["variant"]["latency"]["runs"]
    variant = job.result_variant
    assert (variant.name, variant.is_promotable) == ("int8-static", True)
    assert variant.manifest_sha256
    assert variant.provenance["job"] == str(job.pk)
    assert variant.derived_from == job.source_variant
    assert not list((settings.AVIARY_HOME / "scratch").iterdir())
    assert AuditEvent.objects.filter(action="variant.attached").exists()


@pytest.mark.django_db
def test_a_repeated_job_takes_its_passes_from_the_cache():
    version = make_version()
    first = run_job(job_id=make_job(version).pk)
    assert StepResult.objects.count() == 2
    second = run_job(job_id=make_job(version).pk)
    assert [note["is_cached"] for note in second.report["passes"]] == [True, True]
    assert second.result_variant == first.result_variant
    assert Variant.objects.filter(version=version).count() == 2


@pytest.mark.django_db
def test_a_job_that_ended_is_not_run_again():
    job = run_job(job_id=make_job(make_version()).pk)
    again = run_job(job_id=job.pk)
    assert (again.attempts, again.finished_at) == (1, job.finished_at)


@pytest.mark.django_db
def test_a_variant_that_fails_a_gate_is_reported_but_not_attached():
    recipe = {"data": {"min_calibration": 100}, "gates": {"max_bytes": 10}}
    job = run_job(job_id=make_job(make_version(), recipe=recipe).pk)
    assert job.state == JobState.FAILED_GATE
    failed = [gate for gate in job.report["gates"] if not gate["passed"]]
    assert [gate["gate"] for gate in failed] == ["max_bytes"]
    assert job.result_variant is None
    assert Variant.objects.count() == 1


@pytest.mark.django_db
def test_random_calibration_is_refused_and_never_promotable_where_it_is_asked_for():
    version = make_version()
    with pytest.raises(DataSetUnusableError, match="random data is refused"):
        make_job(version, calibration_dataset=None)
    recipe = {
        "data": {"allow_random": True, "min_calibration": 64},
        "gates": {"max_accuracy_drop_points": 100.0},
    }
    job = run_job(job_id=make_job(version, calibration_dataset=None, recipe=recipe).pk)
    assert job.state == JobState.PASSED, job.error
    assert job.result_variant.is_promotable is False


@pytest.mark.django_db
def test_a_calibration_set_that_is_too_small_is_refused_with_both_numbers():
    with pytest.raises(DataSetUnusableError, match=r"at least 1000 .* found 300"):
        make_job(make_version(), recipe={"data": {"min_calibration": 1000}})


@pytest.mark.django_db
def test_a_pass_that_trains_is_refused_at_the_door_where_no_engine_is_installed(monkeypatch):
    recipe = {"schema": "compress/1", "passes": [{"pass": "distill.student"}]}
    version = make_version()
    # What an import and a search of a package that is not there both see.
    for name in ("jax", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainingUnavailableError, match="requirements-distill"):
        make_job(version, preset="", recipe=recipe)
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_training_in_too_little_memory_is_refused_with_both_numbers():
    recipe = {
        "schema": "compress/1",
        "passes": [{"pass": "finetune.kd"}],
        "limits": {"memory_bytes": 2**29},
    }
    with pytest.raises(RecipeInvalidError, match="at least 1073741824, found 536870912"):
        make_job(make_version(), preset="", recipe=recipe)


@pytest.mark.django_db
def test_a_queued_job_is_cancelled_at_once_and_only_once():
    job = make_job(make_version())
    assert cancel_job(job_id=job.pk, actor="tester").state == JobState.CANCELLED
    with pytest.raises(JobStateError):
        cancel_job(job_id=job.pk, actor="tester")
    assert run_job(job_id=job.pk).attempts == 0


@pytest.mark.django_db(transaction=True)
def test_a_running_job_is_cancelled_before_it_ends():
    job = make_job(make_version())
    thread = threading.Thread(target=run_job, kwargs={"job_id": job.pk})
    thread.start()
    wait_for(lambda: Job.objects.get(pk=job.pk).state == JobState.RUNNING, "the job's start")
    cancel_job(job_id=job.pk, actor="tester")
    thread.join(timeout=CAP_SECONDS)
    job.refresh_from_db()
    assert (job.state, job.result_variant) == (JobState.CANCELLED, None)


@pytest.mark.django_db
def test_a_lost_job_is_queued_again_and_given_up_after_three_attempts():
    job = make_job(make_version())
    long_ago = timezone.now() - timedelta(minutes=5)
    lost = {"state": JobState.RUNNING, "heartbeat_at": long_ago}
    Job.objects.filter(pk=job.pk).update(attempts=1, **lost)
    assert requeue_lost_jobs() == 1
    Job.objects.filter(pk=job.pk).update(attempts=3, **lost)
    assert requeue_lost_jobs() == 0
    job.refresh_from_db()
    assert job.state == JobState.FAILED


@pytest.mark.django_db
def test_a_model_that_is_not_as_accurate_as_registered_is_not_compressed():
    job = make_job(make_version())
    Variant.objects.filter(pk=job.source_variant_id).update(metrics={"accuracy": 0.5})
    job = run_job(job_id=job.pk)
    assert job.state == JobState.FAILED
    assert "0.5000 is registered" in job.error
    assert not StepResult.objects.exists()


@pytest.mark.django_db
def test_a_job_of_a_killed_worker_goes_on_from_the_steps_that_are_cached(monkeypatch):
    job = make_job(make_version())

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("compression.services.running._finish", die)
        with pytest.raises(KeyboardInterrupt):
            run_job(job_id=job.pk)
    assert Variant.objects.count() == 1
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert requeue_lost_jobs() == 1
    job = run_job(job_id=job.pk)
    assert (job.state, job.attempts) == (JobState.PASSED, 2)
    assert all(note["is_cached"] for note in job.report["passes"])


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["failed_gate", "collapsed", "failed"])
def test_the_database_keeps_what_did_not_pass_from_having_a_variant(state):
    job = make_job(make_version())
    with pytest.raises(IntegrityError, match="job_result_only_when_passed"):
        Job.objects.filter(pk=job.pk).update(state=state, result_variant=job.source_variant)
