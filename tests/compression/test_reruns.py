"""The same inputs and seed give the same bytes, and a stored recipe can be run again."""

import io

import pytest
from django.core.management import CommandError, call_command

from compression.exceptions import JobStateError
from compression.models import Job, StepResult
from compression.services.jobs import rerun_job
from compression.services.reruns import compare_rerun
from compression.services.running import run_job
from compression.states import JobState
from registry.models import Variant
from tests.factories.compression import make_job, make_version

PRESETS = ["static-int8", "dynamic-int8", "prune40-int8", "mixed", "fp16"]


@pytest.fixture(autouse=True)
def own_home(settings, tmp_path):
    settings.AVIARY_HOME = tmp_path


def rerun(job):
    out = io.StringIO()
    call_command("rerun_compression", str(job.pk), stdout=out)
    return Job.objects.get(rerun_of=job), out.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_the_same_bytes_from_a_cold_cache(preset):
    # Wide enough that pruning in multiples of 16 has something to remove.
    version = make_version(channels=(32, 64, 64))
    job = run_job(job_id=make_job(version, preset=preset).pk)
    assert job.state == JobState.PASSED, job.error or job.report["gates"]
    assert job.report["ratio"] > 1.5
    StepResult.objects.all().delete()
    again, said = rerun(job)
    assert "same bytes" in said and job.report["passes"][-1]["sha256"] in said
    assert not any(note["is_cached"] for note in again.report["passes"])
    assert again.report["rerun"]["is_identical"] is True
    assert again.report["rerun"]["differences"] == []
    assert again.result_variant == job.result_variant
    assert Variant.objects.filter(version=job.version).count() == 2


@pytest.mark.django_db
def test_a_rerun_that_differs_says_which_libraries_do():
    job = run_job(job_id=make_job(make_version(), preset="dynamic-int8").pk)
    # As if it had been made years ago.
    job.report["environment"]["libraries"]["onnxruntime"] = "1.0.0"
    job.report["environment"]["passes_sha256"] = "0" * 64
    job.report["passes"][-1]["sha256"] = "0" * 64
    job.save(update_fields=["report"])
    with pytest.raises(CommandError, match=r"differ.*onnxruntime 1\.0\.0 became.*code 0+ became"):
        rerun(job)


@pytest.mark.django_db
def test_only_a_measured_job_can_be_run_again():
    job = make_job(make_version())
    with pytest.raises(JobStateError, match="this one is queued"):
        rerun_job(original=job, actor="tester")
    with pytest.raises(CommandError, match="There is no job"):
        call_command("rerun_compression", "00000000-0000-0000-0000-000000000000")


def make_report(name, sha256="a"):
    environment = {"libraries": {"onnx": "1"}, "machine": "x86_64", "cpu_flags": []}
    return {"passes": [{"pass": name, "sha256": sha256}], "environment": environment}


def test_a_search_that_came_out_differently_is_explained_by_the_clock():
    original = Job(report=make_report("search.best"))
    found = compare_rerun(original, make_report("search.best", "b"))
    assert found["is_identical"] is False
    assert "search.best depends on how fast the machine was" in found["sentence"]
    original = Job(report=make_report("prepare"))
    assert "are the same" in compare_rerun(original, make_report("prepare", "b"))["sentence"]
