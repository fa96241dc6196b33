"""Liveness, readiness and numbers, for load balancers, health checks and Prometheus."""

import hmac
import logging

from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

from config.api import error_body
from config.background import read_background
from config.metrics import render
from config.metrics_fleet import FleetCollector
from fleet.authentication import bearer_token

logger = logging.getLogger(__name__)


def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process can answer at all."""
    return JsonResponse({"status": "ok", "version": settings.AVIARY_VERSION})


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database, cache and object store answer and take writes; 503 names those that do
    not.

    What runs beside the web server is named under `background`: devices are answered without it,
    so it makes a 200 `degraded`, and a 503 only with `?strict=1`.
    """
    checks = {"database": True, "database_writable": True, "cache": True, "objects": True}
    background = {"clock": "unknown", "inbox": "unknown"}
    try:
        checks["database_writable"] = not _is_read_only()
        found = read_background(timezone.now())
        if found.clock_seconds is not None:
            background["clock"] = "dead" if found.is_clock_dead else "ok"
        background["inbox"] = "stuck" if found.is_inbox_stuck else "ok"
    except DatabaseError:
        logger.error("readiness: the database does not answer", exc_info=True)
        checks["database"] = checks["database_writable"] = False
    except (RedisError, OSError):
        logger.error("readiness: the cache does not answer", exc_info=True)
        checks["cache"] = False
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
    is_whole = not {"dead", "stuck"} & set(background.values())
    is_ready = all(checks.values()) and (is_whole or request.GET.get("strict") != "1")
    status = "unavailable" if not is_ready else "ok" if is_whole else "degraded"
    body = {"status": status, "checks": checks, "background": background}
    return JsonResponse(body, status=200 if is_ready else 503)


def _is_read_only() -> bool:
    """Whether the database takes no writes: a replica, or one that was set so."""
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            cursor.execute("SELECT 1")
            return False
        cursor.execute(
            "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"
        )
        return bool(cursor.fetchone()[0])


def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads, for those who bring `AVIARY_METRICS_TOKEN`; 404 while none is set."""
    token = settings.AVIARY_METRICS_TOKEN
    if not token:
        return JsonResponse(error_body("not_found", "AVIARY_METRICS_TOKEN is not set."), status=404)
    given = bearer_token(request.headers.get("Authorization", "")) or ""
    if not hmac.compare_digest(given.encode(), token.encode()):
        return JsonResponse(
            error_body("not_authenticated", "Prometheus brings the token as a bearer."),
            status=401,
            headers={"WWW-Authenticate": "Bearer"},
        )
    return HttpResponse(b"".join(render(FleetCollector())), content_type=CONTENT_TYPE_LATEST)
