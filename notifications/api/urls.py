"""Addresses of the management API."""

from rest_framework.routers import SimpleRouter

from notifications.api import views

router = SimpleRouter()
router.register("channels", views.ChannelViewSet, basename="channel")
router.register("notification-rules", views.RuleViewSet, basename="notification-rule")
router.register("deliveries", views.DeliveryViewSet, basename="delivery")
router.register("events", views.EventViewSet, basename="event")

urlpatterns = router.urls
