"""Jobs run by real worker processes, which are cancelled, starved and killed."""

import os
from pathlib import Path

import pytest

from compression.models import Job, StepResult
from compression.services.jobs import cancel_job
from compression.states import JobState
from compression.worker.scratch import list_scratch
from registry.models import Variant
from tests.compression.workers import children_of, running_worker, send, wait_for
from tests.factories.compression import make_bomb, make_job, make_version

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")),
        reason="workers need PostgreSQL and Valkey: run `python -m servers -- pytest`",
    ),
]

#: Seconds of work in its second pass, on a model of this width.
WIDE = (48, 96, 96)
LONG_RECIPE = {
    "schema": "compress/1",
    "passes": [
        {"pass": "prepare"},
        {"pass": "prune.structured", "ratio": 0.2, "align": 8},
        {"pass": "quantize.static"},
    ],
    "data": {"min_calibration": 100},
    "gates": {"max_accuracy_drop_points": 5.0},
}
SHORT = {"preset": "dynamic-int8", "calibration_dataset": None}


@pytest.fixture
def home(settings, run_directory) -> Path:
    """The directory that test and workers share."""
    settings.AVIARY_HOME = run_directory
    return run_directory


def is_pruning(job: Job) -> bool:
    return job.state == JobState.RUNNING and job.progress.get("index") == 1


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_cancelled_job_leaves_no_process_no_scratch_and_no_half_result(home, pool):
    job = make_job(make_version(channels=WIDE), preset="", recipe=LONG_RECIPE)
    with running_worker(home, f"cancel-{pool}", pool=pool) as worker:
        send(job)
        wait_for(job, is_pruning)
        assert len(children_of(home)) == 1
        cancel_job(job_id=job.pk, actor="tester")
        wait_for(job, lambda job: not job.is_active)
        wait_for(job, lambda job: not children_of(home) and not list_scratch())
        assert worker.is_alive
    assert (job.state, job.result_variant, job.report) == (JobState.CANCELLED, None, None)
    assert list(StepResult.objects.values_list("name", flat=True)) == ["prepare"]
    assert Variant.objects.count() == 1


def test_a_job_of_a_killed_worker_is_taken_over_and_goes_on_from_its_cached_passes(home):
    job = make_job(make_version(channels=WIDE), preset="", recipe=LONG_RECIPE)
    with running_worker(home, "first") as first:
        send(job)
        wait_for(job, is_pruning)
        (scratch,) = list_scratch()
        first.kill()
        wait_for(job, lambda job: not children_of(home))
    job.refresh_from_db()
    assert (job.state, list_scratch()) == (JobState.RUNNING, [scratch]), "nobody tidied up"
    with running_worker(home, "second"):
        wait_for(job, lambda job: not job.is_active)
        wait_for(job, lambda job: not list_scratch())
    assert (job.state, job.attempts) == (JobState.PASSED, 2), job.error
    cached = {note["pass"]: note["is_cached"] for note in job.report["passes"]}
    assert cached == {"prepare": True, "prune.structured": False, "quantize.static": False}
    assert job.result_variant is not None


def test_a_worker_runs_one_job_at_a_time_in_order_and_outlives_a_memory_bomb(home):
    version = make_version(content=make_bomb(copies=9000).SerializeToString())
    tight = {"limits": {"memory_bytes": 512 * 1024**2}}
    bomb = make_job(version, recipe=tight, **SHORT)
    gates = {"max_accuracy_drop_points": 100.0}
    rest = [
        make_job(version, recipe={"gates": gates, "data": {"seed": seed}}, **SHORT)
        for seed in (1, 2)
    ]
    with running_worker(home, "queue") as worker:
        for job in (bomb, *rest):
            send(job)
        for job in (bomb, *rest):
            wait_for(job, lambda job: not job.is_active)
        assert worker.is_alive
    assert bomb.state == JobState.FAILED
    assert bomb.error.startswith("out_of_memory") and "limits.memory_bytes" in bomb.error
    assert [job.state for job in rest] == [JobState.PASSED] * 2
    assert bomb.finished_at <= rest[0].started_at
    assert rest[0].finished_at <= rest[1].started_at
