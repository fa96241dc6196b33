"""Addresses of the fleet in the management API."""

from rest_framework.routers import DefaultRouter

from fleet.api import batches, deployments, devices, rollouts, samples

router = DefaultRouter()
router.include_root_view = False
router.register("join-tokens", devices.JoinTokenViewSet)
router.register("devices", devices.DeviceViewSet)
router.register("device-incidents", devices.DeviceIncidentViewSet)
router.register("device-groups", batches.DeviceGroupViewSet)
router.register("deployments", deployments.DeploymentViewSet)
router.register("rollouts", rollouts.RolloutViewSet)
router.register("installations", rollouts.InstallationViewSet)
router.register("calibration-builds", samples.CalibrationBuildViewSet)

urlpatterns = router.urls
