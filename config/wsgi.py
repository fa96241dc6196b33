"""The WSGI application: the poll fast lane in front of Django."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

_django = get_wsgi_application()

# Imported after the apps are loaded: the fast lane reads settings and the cache.
from fleet.polling.fast_lane import wrap  # noqa: E402

application = wrap(_django)
