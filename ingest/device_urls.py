"""Addresses that devices call."""

from django.urls import path

from ingest.device_api import IngestView

urlpatterns = [path("ingest", IngestView.as_view(), name="device-ingest")]
