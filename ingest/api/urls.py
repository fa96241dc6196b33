"""Addresses of the management API."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from ingest.api import inbox
from ingest.api import views as api

router = SimpleRouter()
router.register("drift", api.DriftViewSet, basename="drift")
router.register("inbox", inbox.InboxViewSet, basename="inbox")
router.register("incidents", api.IncidentViewSet, basename="incident")

urlpatterns = [
    *router.urls,
    path("models/<str:slug>/windows/", api.WindowSummaryView.as_view(), name="model-windows"),
    path("models/<str:slug>/latency/", api.LatencySummaryView.as_view(), name="model-latency"),
    path("models/<str:slug>/drift-reference/", api.ReferenceView.as_view(), name="drift-reference"),
    path("models/<str:slug>/drift-policy/", api.DriftPolicyView.as_view(), name="drift-policy"),
]
