"""Addresses of the device protocol, below `/api/`."""

from django.urls import path

from fleet.polling import device_api, device_files

urlpatterns = [
    path("devices/enroll", device_api.EnrolView.as_view(), name="device-enroll"),
    path("models/latest", device_api.LatestView.as_view(), name="device-latest"),
    path("models/desired", device_api.DesiredView.as_view(), name="device-desired"),
    path(
        "deployments/<str:assignment_id>/events",
        device_api.EventsView.as_view(),
        name="device-events",
    ),
    path("devices/telemetry", device_api.TelemetryView.as_view(), name="device-telemetry"),
    path("devices/samples", device_files.SamplesView.as_view(), name="device-samples"),
    path("agent/", device_files.AgentView.as_view(), name="device-agent"),
    path("agent/<str:filename>", device_files.AgentWheelView.as_view(), name="device-agent-wheel"),
]
