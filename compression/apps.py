"""The Django application of model compression."""

from django.apps import AppConfig


class CompressionConfig(AppConfig):
    name = "compression"
    verbose_name = "Compression"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from compression.announce import connect

        connect()
