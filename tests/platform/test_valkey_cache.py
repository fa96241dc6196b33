"""The cache on Redis: JSON alone, so that a value planted there runs nothing."""

import os
import pickle

import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.test import Client

from fleet.authentication import digest_of
from fleet.polling.poll_notes import answer_key

pytestmark = pytest.mark.skipif(not os.environ.get("REDIS_URL"), reason="needs Redis or Valkey")


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.django_db
def test_a_planted_pickle_is_not_opened(tmp_path):
    marker = tmp_path / "ran"
    key = answer_key(digest_of("anything"), "model=x")
    server = redis.from_url(settings.CACHES["default"]["LOCATION"])
    for name in (key, "other"):
        server.set(f":1:{name}", pickle.dumps(Planted(marker)))
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
