"""Addresses that devices call."""

from django.urls import path

from ingest.device_api import IngestView, SummariesView

urlpatterns = [
    path("ingest", IngestView.as_view(), name="device-ingest"),
    path("summaries", SummariesView.as_view(), name="device-summaries"),
]
