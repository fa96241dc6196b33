"""The cache on Redis: JSON alone, so that a value planted there runs nothing."""

import os
import pickle
import re
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from kombu import Connection

from config.stores.valkey_cache import ValkeyCache
from fleet.polling import poll_notes
from fleet.polling.shared import key_of
from tests.platform.test_compose import ROOT

pytestmark = pytest.mark.skipif(not os.environ.get("REDIS_URL"), reason="needs Redis or Valkey")


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.django_db
def test_a_planted_pickle_is_not_opened(tmp_path):
    marker = tmp_path / "ran"
    server = redis.from_url(settings.CACHES["default"]["LOCATION"])
    server.set(":1:other", pickle.dumps(Planted(marker)))
    server.xadd(key_of("fleet:polls"), {"notes": pickle.dumps(Planted(marker))})
    server.xadd(key_of("fleet:polls"), {"other": "field"})
    with poll_notes.taken_polls() as notes:
        assert notes == []
    assert cache.get("other") is None and cache.get_many(["other"]) == {"other": None}
    headers = {"Authorization": "Bearer anything", "If-None-Match": "x"}
    assert Client().get("/api/models/latest?model=x", headers=headers).status_code == 401
    assert not marker.exists()


def test_values_come_back_as_they_were():
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": ""}}
    cache.set("value", value)
    cache.add("number", 41)
    assert cache.incr("number") == 42 and cache.get("number") == 42
    assert cache.get_many(["value", "number"]) == {"value": value, "number": 42}


def test_the_user_of_the_container_file_may_do_its_work_and_no_operator_s():
    """The rule is read from where operators copy it from."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rule = re.search(r"user aviary (on >%s [^\\]+)", text)
    assert rule
    words = rule[1].replace("%s", "pass-1").split()
    name = "aviary-test"
    location = settings.CACHES["default"]["LOCATION"]
    server = redis.from_url(location)
    server.execute_command("ACL", "SETUSER", name, "reset", *words)
    try:
        parts = urlsplit(location)
        address = urlunsplit(
            parts._replace(netloc=f"{name}:pass-1@{parts.hostname}:{parts.port}", path="/54")
        )
        theirs = ValkeyCache(address, {})
        theirs.set("a", {"b": 1})
        theirs.add("n", 1)
        assert (theirs.incr("n"), theirs.get_many(["a"])) == (2, {"a": {"b": 1}})
        with Connection(address) as broker, broker.SimpleQueue("acl-test") as queue:
            queue.put({"x": 1})
            assert queue.get(timeout=10).payload == {"x": 1}
            queue.clear()
        plain = redis.from_url(address)
        for command in (["CONFIG", "GET", "*"], ["SHUTDOWN"], ["ACL", "LIST"], ["FLUSHALL"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                plain.execute_command(*command)
    finally:
        server.execute_command("ACL", "DELUSER", name)
