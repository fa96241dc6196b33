"""Answers to inputs seen before: least recently used go first, and none outlives its time."""

import collections
import hashlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_agent.session import Result


def digest_input(model_digest: str, tensor: np.ndarray[Any, Any]) -> bytes:
    """A key of 16 bytes for `tensor` under a release.

    The manifest's digest covers the preprocessing too, so two releases never share an answer.
    """
    head = f"{model_digest}|{tensor.dtype.str}|{tensor.shape}|".encode()
    data = np.ascontiguousarray(tensor)
    try:
        import xxhash
    except ImportError:
        digest = hashlib.blake2b(head, digest_size=16)
        digest.update(data.data)
        return digest.digest()
    return bytes(xxhash.xxh3_128_digest(head + data.tobytes()))


class ResultCache:
    """A bounded map from input digests to results; safe to use from several threads."""

    def __init__(
        self, entries: int, ttl_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries = entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[bytes, tuple[float, Any]] = collections.OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, key: bytes) -> "Result | None":
        """The result, or None when it is not here or too old."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None and self._clock() - found[0] <= self._ttl_s:
                self._kept.move_to_end(key)
                self.hits += 1
                result: Result = found[1]
                return result
            self._kept.pop(key, None)
            self.misses += 1
            return None

    def put(self, key: bytes, result: "Result") -> None:
        with self._lock:
            self._kept[key] = (self._clock(), result)
            self._kept.move_to_end(key)
            while len(self._kept) > self._entries:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
