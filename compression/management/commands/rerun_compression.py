"""Runs a measured job again from its stored recipe and compares the bytes."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from compression.exceptions import CompressionError
from compression.models import Job
from compression.selectors import jobs_with_names
from compression.services.jobs import rerun_job
from compression.services.running import run_job


class Command(BaseCommand):
    """`manage.py rerun_compression JOB`: status 0 when the variant's bytes are the same again."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", type=UUID, help="the id of a job that was measured")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            original = jobs_with_names().get(pk=options["job"])
        except (Job.DoesNotExist, ValidationError):
            raise CommandError(f"There is no job {options['job']}.") from None
        try:
            job = rerun_job(original=original, actor="command")
        except CompressionError as error:
            raise CommandError(error.message) from error
        job = run_job(job_id=job.pk)
        if not job.report:
            raise CommandError(f"Job {job.pk} ended as {job.state}: {job.error}")
        rerun = job.report["rerun"]
        self.stdout.write(f"job       {job.pk} ({job.state})")
        self.stdout.write(f"before    {rerun['expected_sha256']}")
        self.stdout.write(f"now       {rerun['sha256']}")
        if not rerun["is_identical"]:
            raise CommandError(rerun["sentence"])
        self.stdout.write(rerun["sentence"])
