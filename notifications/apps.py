"""The Django application of notifications."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """An outbox of events, and channels on which people and programs hear of them."""

    name = "notifications"
    verbose_name = "Notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from notifications.services.outbox import connect

        connect()
