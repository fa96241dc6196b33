"""Every page and list of compression costs the same number of queries for one job and for many."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from compression.models import Job
from compression.states import JobState
from tests.compression.test_comparison import REPORT
from tests.factories.compression import make_job, make_version
from tests.queries import count_queries

pytestmark = pytest.mark.django_db
API = "/api/v1/compression/"


def list_budgets(job: Job) -> dict[str, int]:
    """The most queries of each address: session and user, then what it shows."""
    page = "admin:compression_job_"
    return {
        f"{API}jobs/": 4,
        f"{API}jobs/{job.pk}/": 3,
        f"{API}jobs/{job.pk}/candidates/": 3,
        f"{API}jobs/{job.pk}/layers/": 3,
        f"{API}versions/{job.version_id}/variants/": 5,
        f"{API}versions/{job.version_id}/variants/?format=csv": 5,
        f"{API}versions/{job.version_id}/variants/?format=svg": 5,
        f"{API}presets/": 2,
        reverse(f"{page}changelist"): 14,
        reverse(f"{page}add") + f"?version={job.version_id}": 10,
        reverse(f"{page}change", args=[job.pk]): 6,
        reverse(f"{page}live", args=[job.pk]): 4,
        reverse(f"{page}version", args=[job.version_id]): 6,
        reverse(f"{page}picture", args=[job.version_id]): 5,
        reverse(f"{page}version_csv", args=[job.version_id]): 5,
        reverse(f"{page}candidates", args=[job.pk]): 4,
        reverse(f"{page}layers", args=[job.pk]): 4,
    }


def measure(job: Job) -> Job:
    """The job as if it had been run."""
    job.state, job.finished_at, job.report = JobState.FAILED_GATE, timezone.now(), dict(JOB_REPORT)
    job.save()
    return job


JOB_REPORT = {
    **REPORT,
    "gates": [{"gate": "max_bytes", "passed": False, "sentence": "250 bytes"}],
    "warnings": [],
    "speedup": 1.0,
    "agreement_rule": "the same class",
    "search": None,
}


def test_pages_and_lists_keep_their_budget_whatever_the_number_of_jobs(
    admin_client: Client,
) -> None:
    version = make_version()
    job = measure(make_job(version))
    budgets = list_budgets(job)
    few = count_queries(admin_client, budgets)
    for _ in range(5):
        measure(make_job(version))
        make_job(version)
    many = count_queries(admin_client, budgets)
    above = {address: n for address, n in many.items() if n > budgets[address]}
    assert above == {}
    # Queued jobs add the one query for their places, and the table a page of numbers.
    grown = {address: (few[address], n) for address, n in many.items() if n > few[address] + 1}
    assert grown == {}
