"""Jobs: the list, one of them, start, cancel and run again."""

from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from compression import selectors, tasks
from compression.api.serializers import (
    JobOrderSerializer,
    JobRowSerializer,
    JobSerializer,
    SubmissionSerializer,
)
from compression.models import Job
from compression.services import jobs
from registry.api.permissions import ChangePermissions, ModelPermissions
from registry.enqueue import enqueue_after_commit


class NewestFirst(CursorPagination):
    """Jobs have random keys: they are paged by when they were made."""

    ordering = ("-created_at", "pk")
    page_size_query_param = "page_size"
    max_page_size = 500


class JobList(generics.ListAPIView[Job]):
    """Compression jobs, newest first; POST starts one."""

    queryset = Job.objects.none()
    serializer_class = JobRowSerializer
    permission_classes = [ModelPermissions]
    pagination_class = NewestFirst
    filterset_fields = ["state", "version", "preset"]

    def get_queryset(self) -> QuerySet[Job]:
        return selectors.jobs_with_names().defer("report", "log")

    @extend_schema(
        request=JobOrderSerializer,
        responses={201: SubmissionSerializer, 200: SubmissionSerializer},
    )
    def post(self, request: Request) -> Response:
        """The queued job (201); GET it until its state is final.

        An order equal to one that is active or was measured is answered with that job (200).
        """
        form = JobOrderSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        submission = jobs.submit_job(actor=request.user.get_username(), **form.validated_data)
        job = submission.job
        if not submission.is_known:
            enqueue_after_commit(tasks.send_job, job.pk)
        body = {**JobSerializer(job).data, "is_answered_from_cache": submission.is_answered}
        code = status.HTTP_200_OK if submission.is_known else status.HTTP_201_CREATED
        return Response(body, status=code)


class JobDetail(generics.RetrieveAPIView[Job]):
    """One job with its recipe, its last events and, once it ended, its report."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    permission_classes = [ModelPermissions]

    def get_queryset(self) -> QuerySet[Job]:
        return selectors.jobs_with_names()


class JobCancel(generics.GenericAPIView[Job]):
    """Stops a job within seconds."""

    queryset = Job.objects.all()
    serializer_class = JobSerializer
    permission_classes = [ChangePermissions]

    @extend_schema(request=None, responses={200: JobSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """The job, cancelled or asked to stop."""
        self.get_object()
        job = jobs.cancel_job(job_id=pk, actor=request.user.get_username())
        return Response(JobSerializer(job).data)


class JobRerun(generics.GenericAPIView[Job]):
    """Runs a measured job again from its stored recipe."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    permission_classes = [ModelPermissions]

    def get_queryset(self) -> QuerySet[Job]:
        return selectors.jobs_with_names()

    @extend_schema(request=None, responses={201: JobSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """The new job; its `report.rerun` says whether the bytes are the same again."""
        job = jobs.rerun_job(original=self.get_object(), actor=request.user.get_username())
        enqueue_after_commit(tasks.send_job, job.pk)
        return Response(JobSerializer(job).data, status=status.HTTP_201_CREATED)
