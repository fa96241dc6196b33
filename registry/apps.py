"""The registry app."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    """Models, versions, variants, blobs, baselines and the audit chain."""

    name = "registry"
    verbose_name = "Registry"

    def ready(self) -> None:
        from registry.announce import connect

        connect()
