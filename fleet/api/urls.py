"""Addresses of the fleet in the management API."""

from rest_framework.routers import DefaultRouter

from fleet.api import views as api

router = DefaultRouter()
router.include_root_view = False
router.register("join-tokens", api.JoinTokenViewSet)
router.register("devices", api.DeviceViewSet)
router.register("device-incidents", api.DeviceIncidentViewSet)
router.register("deployments", api.DeploymentViewSet)
router.register("rollouts", api.RolloutViewSet)
router.register("installations", api.InstallationViewSet)
router.register("calibration-builds", api.CalibrationBuildViewSet)

urlpatterns = router.urls
