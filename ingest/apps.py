"""Django configuration of the app."""

from django.apps import AppConfig


class IngestConfig(AppConfig):
    """Intake of device records and what is concluded from them."""

    name = "ingest"
    verbose_name = "Drift and alerts"

    def ready(self) -> None:
        from ingest.announce import connect

        connect()
