"""Answers a poll that has nothing new before Django is reached.

A device's last 304 is remembered with the epochs it rested on. It is repeated only when the
token, the query and the headers are the same and no epoch has changed since; anything else,
and any doubt, falls through to Django. So no answer here is older than the last change of the
device or of the plan, and a lost cache costs speed alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.core.cache import cache

from fleet.authentication import bearer_token, digest_of
from fleet.polling.heard import note_heard
from fleet.polling.poll_notes import answer_key, buffer_poll, has_shared_cache

logger = logging.getLogger(__name__)

PATH = "/api/models/latest"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def wrap(application: Application) -> Application:
    """The application behind the fast lane."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        note_heard()
        if environ.get("PATH_INFO") == PATH and environ.get("REQUEST_METHOD") == "GET":
            etag = _find_unchanged(environ)
            if etag is not None:
                headers = [("ETag", etag), ("Cache-Control", "private, no-cache")]
                start_response("304 Not Modified", headers)
                return []
        return application(environ, start_response)

    return serve


def _find_unchanged(environ: dict[str, Any]) -> str | None:
    """The ETag of a remembered answer that still holds, or None."""
    asked = environ.get("HTTP_IF_NONE_MATCH")
    token = bearer_token(environ.get("HTTP_AUTHORIZATION", ""))
    if not asked or token is None or not has_shared_cache():
        return None
    try:
        key = answer_key(digest_of(token), environ.get("QUERY_STRING", ""))
        entry = cache.get(key)
        if entry is None or entry["etag"] != asked or entry["until"] <= time.time():
            return None
        running = environ.get("HTTP_X_RUNNING_DIGEST", "")
        agent_version = environ.get("HTTP_X_AGENT_VERSION", "")
        if (entry["running"], entry["agent_version"]) != (running, agent_version):
            return None
        if cache.get_many(list(entry["epochs"])) != entry["epochs"]:
            return None
    except Exception:
        logger.warning("The fast lane could not read the cache", exc_info=True)
        return None
    buffer_poll(
        {
            "device": entry["device"],
            "at": time.time(),
            "model": entry["model"],
            "running": running,
            "agent_version": agent_version,
        }
    )
    return str(asked)
