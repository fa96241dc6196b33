"""Slots, scratch directories and messages: what keeps a queue moving when workers are lost."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from compression import tasks
from compression.models import Job
from compression.services import queue
from compression.services.jobs import cancel_job, create_job, submit_job
from compression.states import JobState
from compression.worker.machine_slots import job_slot
from compression.worker.scratch import list_scratch, make_scratch, remove_abandoned
from registry.models import AuditEvent
from tests.factories.compression import make_job, make_version


@pytest.fixture(autouse=True)
def own_home(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path


@pytest.fixture
def sent(monkeypatch):
    ids = []
    monkeypatch.setattr("compression.tasks.run_job.delay", ids.append)
    return ids


def test_a_machine_runs_no_more_jobs_than_it_has_slots(settings):
    settings.AVIARY_JOBS_AT_ONCE = 2
    with job_slot() as first, job_slot() as second, job_slot() as third:
        assert (first, second, third) == (0, 1, None)
    with job_slot() as again:
        assert again == 0


def test_only_scratch_of_claims_that_nobody_holds_is_removed():
    held, lost = uuid.uuid4(), uuid.uuid4()
    (make_scratch(lost) / "model.onnx").write_bytes(b"x")
    kept = make_scratch(held)
    assert remove_abandoned([held]) == 1
    assert list_scratch() == [kept]


@pytest.mark.django_db
def test_the_sweep_sends_each_unsent_job_once_and_oldest_first(sent):
    version = make_version()
    older, newer = make_job(version), make_job(version)
    assert tasks.sweep_jobs() == 0, "a message of a new job may still arrive"
    long_ago = timezone.now() - timedelta(minutes=2)
    Job.objects.filter(pk=newer.pk).update(created_at=long_ago)
    Job.objects.filter(pk=older.pk).update(created_at=long_ago - timedelta(minutes=1))
    tasks.sweep_jobs()
    tasks.sweep_jobs()
    assert sent == [str(older.pk), str(newer.pk)]
    Job.objects.update(sent_at=timezone.now() - queue.RESEND_AFTER - timedelta(seconds=1))
    tasks.sweep_jobs()
    assert len(sent) == 4, "a message that never arrived is sent again"
    assert Job.objects.filter(state=JobState.QUEUED).count() == 2
    order = queue.take_oldest()
    assert order == older.pk


@pytest.mark.django_db
def test_a_message_that_meets_a_busy_machine_leaves_its_job_for_the_next_sweep(sent, settings):
    settings.AVIARY_JOBS_AT_ONCE = 1
    job = make_job(make_version())
    queue.mark_sent([job.pk])
    with job_slot():
        tasks.run_job(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.sent_at, sent) == (JobState.QUEUED, None, [])


@pytest.mark.django_db
def test_an_equal_order_is_answered_with_the_job_that_is_there():
    version = make_version()
    sets = {dataset.kind: dataset for dataset in version.model.datasets.all()}
    order = {
        "version": version,
        "preset": "dynamic-int8",
        "evaluation_dataset": sets["evaluation"],
        "actor": "tester",
    }
    first = submit_job(**order)
    again = submit_job(**order)
    assert (again.job, again.is_known, again.is_answered) == (first.job, True, False)
    other = submit_job(**order, recipe={"gates": {"max_bytes": 1000}})
    assert other.job != first.job
    Job.objects.filter(pk=first.job.pk).update(state=JobState.FAILED_GATE, report={})
    answered = submit_job(**order)
    assert (answered.job, answered.is_answered) == (first.job, True)
    assert AuditEvent.objects.filter(action="compression.answered").count() == 2
    cancel_job(job_id=other.job.pk, actor="tester")
    anew = submit_job(**order, recipe={"gates": {"max_bytes": 1000}})
    assert not anew.is_known, "a cancelled job answers nothing"
    assert create_job(**order).identity == first.job.identity
