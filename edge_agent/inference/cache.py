"""Answers to inputs seen before: least recently used go first, and none outlives its time."""

import collections
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_agent.inference.result import Result


def blake2b_digest(data: Any, seed: int) -> bytes:
    """What stands in for xxhash where it is not installed: slower, and as good a key."""
    return hashlib.blake2b(data, digest_size=16, key=seed.to_bytes(8, "little")).digest()


digest_bytes: Callable[[Any, int], bytes] = blake2b_digest
with contextlib.suppress(ImportError):
    from xxhash import xxh3_128_digest

    digest_bytes = xxh3_128_digest

Key = tuple[tuple[int, ...], Any, bytes]


class ResultCache:
    """A bounded map from inputs to results of one release; safe to use from several threads."""

    def __init__(
        self,
        entries: int,
        ttl_s: float,
        *,
        release: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`release`: the manifest's digest, which covers model and preprocessing alike."""
        self._entries = entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: collections.OrderedDict[Key, tuple[float, Result]] = collections.OrderedDict()
        # xxh3 is no cryptographic hash: the secret keeps whoever chooses inputs from choosing two
        # that collide.
        self._seed = int(release[:16], 16) ^ int.from_bytes(os.urandom(8), "little")
        self.hits = 0
        self.misses = 0

    def key(self, tensor: np.ndarray[Any, Any]) -> Key:
        """What tells `tensor` from others under this release: its bytes, shape and dtype."""
        if not tensor.flags.c_contiguous:
            tensor = np.ascontiguousarray(tensor)
        return tensor.shape, tensor.dtype, digest_bytes(tensor, self._seed)

    def get(self, key: Key) -> "Result | None":
        """The result, or None when it is not here or too old."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None and self._clock() - found[0] <= self._ttl_s:
                self._kept.move_to_end(key)
                self.hits += 1
                return found[1]
            self._kept.pop(key, None)
            self.misses += 1
            return None

    def put(self, key: Key, result: "Result") -> None:
        with self._lock:
            self._kept[key] = (self._clock(), result)
            self._kept.move_to_end(key)
            while len(self._kept) > self._entries:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
