"""The fleet application."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Devices, deployments, rollouts and gates."""

    name = "fleet"
    verbose_name = "Fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from fleet import announce
        from fleet.services.registry_changes import connect

        connect()
        announce.connect()
