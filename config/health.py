"""Liveness and readiness, for load balancers and container health checks."""

import logging

from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, JsonResponse
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process can answer at all."""
    return JsonResponse({"status": "ok", "version": settings.AVIARY_VERSION})


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database, cache and object store answer; 503 names those that do not."""
    checks = {"database": True, "cache": True, "objects": True}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        logger.error("readiness: the database does not answer", exc_info=True)
        checks["database"] = False
    try:
        cache.set("readyz", 1, 5)
    except (RedisError, OSError):
        logger.error("readiness: the cache does not answer", exc_info=True)
        checks["cache"] = False
    try:
        default_storage.exists("readyz")
    except Exception:
        logger.error("readiness: the object store does not answer", exc_info=True)
        checks["objects"] = False
    ready = all(checks.values())
    body = {"status": "ok" if ready else "unavailable", "checks": checks}
    return JsonResponse(body, status=200 if ready else 503)
