"""Django's Redis cache with JSON for values, a short deadline and a breaker.

Whoever may write to Redis must not thereby run code here, so no value is a pickle.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from registry.breaker import Breaker

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 0.5

breaker = Breaker(
    "Redis or Valkey",
    trips_on=(RedisTimeoutError, RedisConnectionError, OSError),
    refuses_with=RedisConnectionError,
)


class JsonSerializer:
    """Values as JSON; integers bare, so that they can be incremented in place."""

    def dumps(self, value: Any) -> Any:
        return value if type(value) is int else msgspec.json.encode(value)

    def loads(self, data: bytes) -> Any:
        """The value; None, as if there were none, for bytes that are not JSON."""
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            logger.warning("A cached value is not JSON and counts as absent.")
            return None


class GuardedRedis(Redis):
    """A client whose commands fail at once while the server does not answer."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with breaker.call():
            return super().execute_command(*args, **options)


class GuardedCacheClient(RedisCacheClient):
    """Django's client over `GuardedRedis`."""

    def __init__(self, servers: Any, **options: Any) -> None:
        options = {
            "serializer": JsonSerializer,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
            # Once more for a connection that the server closed while it lay idle; never for time.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            **options,
        }
        super().__init__(servers, **options)  # type: ignore[no-untyped-call]
        self._client = GuardedRedis


class ValkeyCache(RedisCache):
    """The cache backend."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)  # type: ignore[no-untyped-call]
        self._class = GuardedCacheClient

    def count_together(self, keys: Sequence[str], seconds: int) -> list[int]:
        """Adds 1 to each key, in order, and gives what it has then; one round trip.

        A key ends `seconds` after it was first counted.
        """
        client = self._cache.get_client(None, write=True)  # type: ignore[attr-defined]
        with breaker.call(), client.pipeline(transaction=False) as pipe:
            for key in keys:
                name = self.make_and_validate_key(key)  # type: ignore[attr-defined]
                pipe.set(name, 0, ex=seconds, nx=True)
                pipe.incr(name)
            answers = pipe.execute()
        return [int(count) for count in answers[1::2]]

    def client(self) -> Redis:
        """The client itself, for streams and messages; it has the deadline and the breaker too."""
        return self._cache.get_client(None, write=True)  # type: ignore[attr-defined,no-any-return]
