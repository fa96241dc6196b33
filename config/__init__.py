"""Settings, URLs, the Celery application and the API's error shape; no models live here."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
